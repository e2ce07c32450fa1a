{{- define "otel-telemetry.name" -}}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{- end }}

{{- define "otel-telemetry.labels" -}}
app.kubernetes.io/name: otel-telemetry
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "otel-telemetry.selector" -}}
app.kubernetes.io/name: otel-telemetry
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- /* What takes requests: the pods that only receive, where there are some. */ -}}
{{- define "otel-telemetry.receiving" -}}
{{- if or (int .Values.receive.replicas) (include "otel-telemetry.kafka" .) }}receive{{ else }}gateway{{ end }}
{{- end }}

{{- /* Not empty where topics of Kafka are between receiving and delivering. */ -}}
{{- define "otel-telemetry.kafka" -}}
{{- if eq .Values.transport "kafka" }}kafka{{ end }}
{{- end }}

{{- define "otel-telemetry.affinity" -}}
{{- $affinity := deepCopy .Values.affinity -}}
{{- if and (int .Values.receive.replicas) (not (include "otel-telemetry.kafka" .)) -}}
{{- $own := dict "labelSelector" (dict "matchLabels" (include "otel-telemetry.selector" . | fromYaml)) "topologyKey" "kubernetes.io/hostname" -}}
{{- $pods := get $affinity "podAffinity" | default dict -}}
{{- $key := "requiredDuringSchedulingIgnoredDuringExecution" -}}
{{- $_ := set $pods $key (append (get $pods $key | default list) $own) -}}
{{- $_ := set $affinity "podAffinity" $pods -}}
{{- end -}}
{{- with $affinity }}{{ toYaml . }}{{ end -}}
{{- end }}

{{- define "otel-telemetry.check" -}}
{{- if not (has .Values.transport (list "disk" "kafka")) -}}
{{- fail (printf "transport: %q is neither disk nor kafka" .Values.transport) -}}
{{- end -}}
{{- if include "otel-telemetry.kafka" . -}}
{{- if not .Values.kafka.brokers -}}
{{- fail "kafka.brokers: name one broker or more, such as kafka-1:9092,kafka-2:9092: transport is kafka" -}}
{{- end -}}
{{- range $part, $count := dict "receive" (int .Values.receive.replicas) "deliver" (int .Values.deliver.replicas) -}}
{{- if lt $count 1 -}}
{{- fail (printf "%s.replicas: one at least, as transport is kafka and no pod does it all" $part) -}}
{{- end -}}
{{- end -}}
{{- $most := ternary (int .Values.deliver.autoscaling.maxReplicas) (int .Values.deliver.replicas) .Values.deliver.autoscaling.enabled -}}
{{- if gt $most (int .Values.kafka.partitions) -}}
{{- fail (printf "deliver: %d pods would share %d partitions (kafka.partitions), and some have nothing to do" $most (int .Values.kafka.partitions)) -}}
{{- end -}}
{{- else if .Values.receive.autoscaling.enabled -}}
{{- fail "receive.autoscaling: pods that share a spool run on its node; set transport to kafka, or receive.replicas to a number" -}}
{{- else if int .Values.receive.replicas -}}
{{- $modes := .Values.gateway.persistence.accessModes -}}
{{- if ne (toJson $modes) (toJson (list "ReadWriteOnce")) -}}
{{- fail (printf "receive.replicas: the pods share a spool, whose log is in memory of one node: gateway.persistence.accessModes has to be [ReadWriteOnce] and is %s; for more nodes install the chart once for each, with one database" (toJson $modes)) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "otel-telemetry.pod" -}}
{{- $root := .root -}}
metadata:
  labels:
    {{- include "otel-telemetry.labels" $root | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
  {{- if $root.Values.scrapeAnnotations }}
  annotations:
    prometheus.io/scrape: "true"
    prometheus.io/port: "4318"
    prometheus.io/path: /metrics
  {{- end }}
spec:
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 30
  securityContext:
    runAsNonRoot: true
    runAsUser: 10001
    runAsGroup: 10001
    fsGroup: 10001
    seccompProfile: {type: RuntimeDefault}
  {{- with $root.Values.imagePullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: gateway
      image: "{{ $root.Values.image.repository }}:{{ $root.Values.image.tag | default $root.Chart.AppVersion }}"
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      env:
        - {name: OTEL_TELEMETRY_GATEWAY__HOST, value: "0.0.0.0"}
        - {name: OTEL_TELEMETRY_GATEWAY__SPOOL_DIR, value: /data/otel-spool}
        - {name: OTEL_TELEMETRY_GATEWAY__WORKERS, value: {{ $root.Values.gateway.workers | quote }}}
        {{- if include "otel-telemetry.kafka" $root }}
        - {name: OTEL_TELEMETRY_GATEWAY__TRANSPORT, value: kafka}
        - {name: OTEL_TELEMETRY_GATEWAY__KAFKA__BROKERS, value: {{ $root.Values.kafka.brokers | quote }}}
        - {name: OTEL_TELEMETRY_GATEWAY__KAFKA__TOPIC_PREFIX, value: {{ $root.Values.kafka.topicPrefix | quote }}}
        - {name: OTEL_TELEMETRY_GATEWAY__KAFKA__PARTITIONS, value: {{ $root.Values.kafka.partitions | quote }}}
        {{- end }}
        {{- range $name, $value := $root.Values.settings }}
        - {name: {{ $name }}, value: {{ $value | quote }}}
        {{- end }}
        {{- range $name, $value := .settings }}
        - {name: {{ $name }}, value: {{ $value | quote }}}
        {{- end }}
      envFrom:
        - secretRef: {name: {{ required "existingSecret: name a Secret with OTEL_TELEMETRY_GATEWAY__API_KEYS" $root.Values.existingSecret }}}
      ports:
        - {name: grpc, containerPort: 4317}
        - {name: http, containerPort: 4318}
      startupProbe:
        httpGet: {path: /health, port: http}
        periodSeconds: 2
        failureThreshold: 60
      readinessProbe:
        httpGet: {path: /health, port: http}
        periodSeconds: 5
        timeoutSeconds: 3
      livenessProbe: # alive while it listens: a full disk is no reason to start it again
        tcpSocket: {port: http}
        periodSeconds: 20
        failureThreshold: 3
      resources: {{- toYaml .resources | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: {drop: [ALL]}
      volumeMounts:
        - {name: data, mountPath: /data}
        - {name: tmp, mountPath: /tmp}
  volumes:
    - {name: tmp, emptyDir: {}}
    {{- if include "otel-telemetry.kafka" $root }}
    - {name: data, emptyDir: {}} # nothing in it outlives a pod: what is acknowledged is in the topics
    {{- end }}
    {{- with .claim }}
    - {name: data, persistentVolumeClaim: {claimName: {{ . }}}}
    {{- end }}
  {{- with $root.Values.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $root.Values.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with include "otel-telemetry.affinity" $root }}
  affinity: {{- . | nindent 4 }}
  {{- end }}
{{- end }}

{{- /* A node that is emptied takes one of several pods away at a time. */ -}}
{{- define "otel-telemetry.disruption" -}}
{{- $several := or .autoscaling.enabled (gt (int .replicas) 1) -}}
{{- if and .root.Values.podDisruptionBudget.enabled $several }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "otel-telemetry.name" .root }}-{{ .component }}
  labels: {{- include "otel-telemetry.labels" .root | nindent 4 }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels:
      {{- include "otel-telemetry.selector" .root | nindent 6 }}
      app.kubernetes.io/component: {{ .component }}
{{- end }}
{{- end }}

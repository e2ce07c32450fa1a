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
{{- if int .Values.receive.replicas }}receive{{ else }}gateway{{ end }}
{{- end }}

{{- define "otel-telemetry.affinity" -}}
{{- $affinity := deepCopy .Values.affinity -}}
{{- if int .Values.receive.replicas -}}
{{- $own := dict "labelSelector" (dict "matchLabels" (include "otel-telemetry.selector" . | fromYaml)) "topologyKey" "kubernetes.io/hostname" -}}
{{- $pods := get $affinity "podAffinity" | default dict -}}
{{- $key := "requiredDuringSchedulingIgnoredDuringExecution" -}}
{{- $_ := set $pods $key (append (get $pods $key | default list) $own) -}}
{{- $_ := set $affinity "podAffinity" $pods -}}
{{- end -}}
{{- with $affinity }}{{ toYaml . }}{{ end -}}
{{- end }}

{{- define "otel-telemetry.check" -}}
{{- if int .Values.receive.replicas -}}
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

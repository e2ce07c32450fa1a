package redactprocessor

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/consumer/consumererror"
	"go.opentelemetry.io/collector/processor"
	"go.opentelemetry.io/collector/processor/processorhelper"
	"go.uber.org/zap"
)

const longestPause = time.Second

// codec is what one signal's batches are made of on the way to the redactor and back.
type codec[T any] struct {
	signal string
	count  func(T) int
	encode func(T) ([]byte, error)
	decode func([]byte) (T, error)
}

// redaction has batches of one signal redacted. It passes on what came back, or an error; never what it was given.
type redaction[T any] struct {
	codec   codec[T]
	config  *Config
	client  *client
	counts  *counts
	log     *zap.Logger
	failing atomic.Bool
}

func newRedaction[T any](set processor.Settings, config component.Config, codec codec[T]) (*redaction[T], error) {
	own := config.(*Config)
	client, err := newClient(own, codec.signal)
	if err != nil {
		return nil, err
	}
	counts, err := newCounts(set.TelemetrySettings, codec.signal)
	if err != nil {
		return nil, err
	}
	return &redaction[T]{codec: codec, config: own, client: client, counts: counts, log: set.Logger}, nil
}

func (r *redaction[T]) options() []processorhelper.Option {
	return []processorhelper.Option{
		processorhelper.WithCapabilities(consumer.Capabilities{MutatesData: false}), // the answer is a batch of its own
		processorhelper.WithShutdown(func(context.Context) error {
			r.client.close()
			return nil
		}),
	}
}

// process returns the batch without personal data. An error is retryable, unless the same batch can never succeed.
func (r *redaction[T]) process(ctx context.Context, data T) (T, error) {
	started := time.Now()
	sent := r.codec.count(data)
	clean, dropped, err := r.redact(ctx, data, sent)
	r.counts.batch(ctx, sent, dropped, time.Since(started), err)
	r.tell(err)
	if err != nil {
		var nothing T
		return nothing, r.asConsumerError(err)
	}
	return clean, nil
}

func (r *redaction[T]) asConsumerError(err error) error {
	err = fmt.Errorf("otel_telemetry: the batch was not redacted, and is not passed on: %w", err)
	if isPermanent(err) {
		return consumererror.NewPermanent(err)
	}
	return consumererror.NewRetryableError(err)
}

func (r *redaction[T]) redact(ctx context.Context, data T, sent int) (T, int, error) {
	var nothing T
	body, err := r.codec.encode(data)
	if err != nil {
		return nothing, 0, permanent{errors.New("it cannot be encoded")}
	}
	ctx, cancel := context.WithTimeout(ctx, r.config.Timeout)
	defer cancel()
	pause := r.config.RetryInterval
	for {
		clean, dropped, err := r.attempt(ctx, body, sent)
		if err == nil || isPermanent(err) {
			return clean, dropped, err
		}
		if !sleep(ctx, max(pause, retryAfter(err))) {
			return nothing, 0, err
		}
		pause = min(2*pause, longestPause)
	}
}

// attempt asks once, and holds the answer against what was sent and against what it says of itself.
func (r *redaction[T]) attempt(ctx context.Context, body []byte, sent int) (T, int, error) {
	var nothing T
	answer, err := r.client.ask(ctx, body)
	if err != nil {
		return nothing, 0, err
	}
	defer answer.release()
	clean, err := r.codec.decode(answer.body.Bytes())
	if err != nil {
		return nothing, 0, errors.New("the redactor answered what is no OTLP")
	}
	if got := r.codec.count(clean); got != answer.items || got+answer.rejected != sent {
		return nothing, 0, fmt.Errorf("the redactor was given %d items and answered %d, but says %d and %d left out",
			sent, got, answer.items, answer.rejected)
	}
	if answer.rejected == 0 {
		return clean, 0, nil
	}
	if answer.items == 0 {
		return nothing, 0, permanent{fmt.Errorf("none of %d items can be redacted: %s", sent, answer.problem)}
	}
	r.log.Warn("Items were left out, because they could not be redacted",
		zap.String("signal", r.codec.signal), zap.Int("items", answer.rejected), zap.String("first", answer.problem))
	return clean, answer.rejected, nil
}

// tell logs when the redactor stops answering, and when it answers again; not each batch.
func (r *redaction[T]) tell(err error) {
	failing := err != nil && !isPermanent(err)
	if r.failing.Swap(failing) == failing {
		return
	}
	if failing {
		r.log.Error("Nothing is passed on: the redactor does not redact. Senders are told to retry",
			zap.String("signal", r.codec.signal), zap.String("endpoint", r.config.Endpoint), zap.Error(err))
		return
	}
	r.log.Info("The redactor redacts", zap.String("signal", r.codec.signal))
}

// sleep waits, unless the time of the batch is over before.
func sleep(ctx context.Context, pause time.Duration) bool {
	if until, ok := ctx.Deadline(); ok && time.Until(until) <= pause {
		return false
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

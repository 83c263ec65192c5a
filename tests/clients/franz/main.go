// Tries a broker with franz-go, or writes down a history. Usage: check SERVERS PREFIX [CHECK ...] | check history KEY=VALUE ...
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	partitions = 4
	limit      = time.Minute
)

var (
	// What is tried: so many nodes, of which one is restarted now and then, or none is.
	nodes    = max(1, number(os.Getenv("CHECK_NODES")))
	restarts = os.Getenv("CHECK_RESTARTS") != ""

	servers []string
	prefix  string
	admin   *kadm.Client
)

func main() {
	if len(os.Args) > 2 && os.Args[1] == "history" {
		os.Exit(history(os.Args[2:]))
	}
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: check SERVERS PREFIX [CHECK ...] | check history KEY=VALUE ...")
		os.Exit(2)
	}
	servers, prefix = strings.Split(os.Args[1], ","), os.Args[2]
	wanted := os.Args[3:]
	client, err := kgo.NewClient(kgo.SeedBrokers(servers...))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	admin = kadm.NewClient(client)
	checks := []struct {
		name string
		run  func(context.Context) error
	}{
		{"topics", topics},
		{"configs", configs},
		{"compressions", compressions},
		{"record_fields", recordFields},
		{"acks", acks},
		{"many_producers", manyProducers},
		{"large_records", largeRecords},
		{"group_rebalance_range", func(ctx context.Context) error { return groupRebalance(ctx, "range", kgo.RangeBalancer()) }},
		{"group_rebalance_cooperative", func(ctx context.Context) error {
			return groupRebalance(ctx, "cooperative", kgo.CooperativeStickyBalancer())
		}},
		{"commit_and_restart", commitAndRestart},
		{"seek", seek},
		{"offsets", offsets},
		{"groups_admin", groupsAdmin},
		{"topic_recreated", topicRecreated},
	}
	failed := 0
	for _, check := range checks {
		if len(wanted) > 0 && !slices.Contains(wanted, check.name) {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		started := time.Now()
		err := check.run(ctx)
		cancel()
		if err != nil {
			failed++
			fmt.Printf("FAILED %s: %v\n", check.name, err)
			continue
		}
		fmt.Printf("ok %s %.1fs\n", check.name, time.Since(started).Seconds())
	}
	if failed > 0 {
		os.Exit(1)
	}
}

func topics(ctx context.Context) error {
	topic, err := create(ctx, "topics", partitions)
	if err != nil {
		return err
	}
	details, err := admin.ListTopics(ctx, topic)
	if err != nil {
		return err
	}
	if got := len(details[topic].Partitions); got != partitions {
		return fmt.Errorf("%d partitions", got)
	}
	if details[topic].ID == (kadm.TopicID{}) {
		return errors.New("no topic id")
	}
	if _, err := create(ctx, "topics", 1); !errors.Is(err, kerr.TopicAlreadyExists) {
		return fmt.Errorf("created twice: %v", err)
	}
	if _, err := admin.CreateTopic(ctx, 1, 1, nil, "a b"); !errors.Is(err, kerr.InvalidTopicException) {
		return fmt.Errorf("bad name: %v", err)
	}
	many := int16(nodes + 1)
	if _, err := admin.CreateTopic(ctx, 1, many, nil, name("many")); !errors.Is(err, kerr.InvalidReplicationFactor) {
		return fmt.Errorf("%d replicas: %v", many, err)
	}
	if response, err := admin.CreatePartitions(ctx, 2, topic); err != nil || response[topic].Err != nil {
		return fmt.Errorf("adding partitions: %v %v", err, response[topic].Err)
	}
	if err := until(ctx, "six partitions", func() (bool, error) {
		details, err := admin.ListTopics(ctx, topic)
		return len(details[topic].Partitions) == partitions+2, err
	}); err != nil {
		return err
	}
	if response, err := admin.DeleteTopics(ctx, topic); err != nil || response[topic].Err != nil {
		return fmt.Errorf("deleting: %v %v", err, response[topic].Err)
	}
	return until(ctx, "deleted", func() (bool, error) {
		all, err := admin.ListTopics(ctx)
		return !all.Has(topic), err
	})
}

func configs(ctx context.Context) error {
	topic, err := create(ctx, "configs", 1)
	if err != nil {
		return err
	}
	value := func() (string, error) {
		described, err := admin.DescribeTopicConfigs(ctx, topic)
		if err != nil {
			return "", err
		}
		resource, err := described.On(topic, nil)
		if err != nil {
			return "", err
		}
		for _, config := range resource.Configs {
			if config.Key == "max.message.bytes" {
				return config.MaybeValue(), nil
			}
		}
		return "", errors.New("max.message.bytes is not described")
	}
	if err := until(ctx, "the default of max.message.bytes", func() (bool, error) {
		got, err := value()
		return got == "1048588", err
	}); err != nil {
		return err
	}
	change := []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "max.message.bytes", Value: kadm.StringPtr("2000000")}}
	if _, err := admin.AlterTopicConfigs(ctx, change, topic); err != nil {
		return err
	}
	return until(ctx, "altered", func() (bool, error) {
		got, err := value()
		return got == "2000000", err
	})
}

func compressions(ctx context.Context) error {
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	for codec, compression := range codecs {
		topic, err := create(ctx, "codec-"+codec, 1)
		if err != nil {
			return err
		}
		client, err := kgo.NewClient(kgo.SeedBrokers(servers...), kgo.ProducerBatchCompression(compression),
			kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(20*time.Millisecond))
		if err != nil {
			return err
		}
		records := make([]*kgo.Record, 1000)
		for i := range records {
			records[i] = &kgo.Record{Topic: topic, Key: fmt.Appendf(nil, "key %d", i), Value: text(i)}
		}
		results := client.ProduceSync(ctx, records...)
		client.Close()
		if err := results.FirstErr(); err != nil {
			return fmt.Errorf("%s: %w", codec, err)
		}
		read, err := readAll(ctx, topic, 1000)
		if err != nil {
			return fmt.Errorf("%s: %w", codec, err)
		}
		for i, record := range read {
			if record.Offset != int64(i) || !bytes.Equal(record.Value, text(i)) || string(record.Key) != fmt.Sprintf("key %d", i) {
				return fmt.Errorf("%s: record %d differs", codec, i)
			}
		}
	}
	return nil
}

func recordFields(ctx context.Context) error {
	topic, err := create(ctx, "fields", 1)
	if err != nil {
		return err
	}
	stamp := time.UnixMilli(1_600_000_000_123)
	headers := []kgo.RecordHeader{{Key: "name", Value: []byte("header")}, {Key: "empty", Value: []byte{}}, {Key: "none"}}
	if err := produce(ctx, topic,
		&kgo.Record{Key: []byte("key"), Value: []byte("value"), Headers: headers, Timestamp: stamp},
		&kgo.Record{Value: []byte("no key"), Timestamp: stamp},
		&kgo.Record{Key: []byte("tombstone"), Timestamp: stamp},
	); err != nil {
		return err
	}
	read, err := readAll(ctx, topic, 3)
	if err != nil {
		return err
	}
	switch full := read[0]; {
	case !full.Timestamp.Equal(stamp):
		return fmt.Errorf("timestamp %v", full.Timestamp)
	case len(full.Headers) != 3 || string(full.Headers[0].Value) != "header" || full.Headers[2].Value != nil:
		return fmt.Errorf("headers %v", full.Headers)
	case read[1].Key != nil:
		return errors.New("the null key is not null")
	case read[2].Value != nil:
		return errors.New("the null value is not null")
	}
	return nil
}

func acks(ctx context.Context) error {
	topic, err := create(ctx, "acks", 1)
	if err != nil {
		return err
	}
	levels := []kgo.Acks{kgo.NoAck(), kgo.LeaderAck(), kgo.AllISRAcks()}
	options := []kgo.Opt{kgo.DisableIdempotentWrite()}
	if restarts {
		// While a node stops, records that nobody answers may be lost, and those sent again may be there twice.
		levels, options = levels[2:], nil
	}
	for index, level := range levels {
		records := make([]*kgo.Record, 100)
		for i := range records {
			records[i] = &kgo.Record{Value: text(i)}
		}
		if err := produceWith(ctx, topic, records, append(options, kgo.RequiredAcks(level))...); err != nil {
			return err
		}
		if _, err := readAll(ctx, topic, 100*(index+1)); err != nil {
			return err
		}
	}
	return nil
}

// manyProducers has several idempotent producers write to the same partitions at once.
func manyProducers(ctx context.Context) error {
	topic, err := create(ctx, "many", partitions)
	if err != nil {
		return err
	}
	var wait sync.WaitGroup
	failures := make([]error, 8)
	for i := range failures {
		wait.Add(1)
		go func() {
			defer wait.Done()
			records := make([]*kgo.Record, 2000)
			for j := range records {
				records[j] = &kgo.Record{Key: fmt.Appendf(nil, "%d-%d", i, j), Value: fmt.Appendf(nil, "%d-%d", i, j)}
			}
			failures[i] = produceWith(ctx, topic, records)
		}()
	}
	wait.Wait()
	if err := errors.Join(failures...); err != nil {
		return err
	}
	read, err := readAll(ctx, topic, 8*2000)
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, record := range read {
		seen[string(record.Value)] = true
	}
	if len(seen) != 8*2000 {
		return fmt.Errorf("%d distinct records", len(seen))
	}
	return nil
}

func largeRecords(ctx context.Context) error {
	topic, err := create(ctx, "large", 1)
	if err != nil {
		return err
	}
	million := make([]byte, 1_000_000)
	rand.Read(million)
	for range 8 {
		if err := produceWith(ctx, topic, []*kgo.Record{{Value: million}}, kgo.ProducerBatchMaxBytes(1_048_588)); err != nil {
			return err
		}
	}
	big := []*kgo.Record{{Value: make([]byte, 1_100_000)}}
	err = produceWith(ctx, topic, big, kgo.ProducerBatchMaxBytes(10_000_000), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if !errors.Is(err, kerr.MessageTooLarge) {
		return fmt.Errorf("a record above the limit: %v", err)
	}
	read, err := readAll(ctx, topic, 8)
	if err != nil {
		return err
	}
	for _, record := range read {
		if !bytes.Equal(record.Value, million) {
			return errors.New("a large value differs")
		}
	}
	return nil
}

// member is one consumer that tells which partitions it has and adds what it reads to `seen`.
type member struct {
	client *kgo.Client
	mutex  sync.Mutex
	owned  map[int32]bool
	done   chan struct{}
}

func join(topic, group string, balancer kgo.GroupBalancer, seen *sync.Map) (*member, error) {
	self := &member{owned: map[int32]bool{}, done: make(chan struct{})}
	change := func(owned bool) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, changed map[string][]int32) {
			self.mutex.Lock()
			defer self.mutex.Unlock()
			for _, partition := range changed[topic] {
				if owned {
					self.owned[partition] = true
				} else {
					delete(self.owned, partition)
				}
			}
		}
	}
	revoked := change(false)
	client, err := kgo.NewClient(kgo.SeedBrokers(servers...), kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic),
		kgo.Balancers(balancer), kgo.HeartbeatInterval(300*time.Millisecond), kgo.SessionTimeout(10*time.Second),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.AutoCommitInterval(100*time.Millisecond),
		kgo.OnPartitionsAssigned(change(true)), kgo.OnPartitionsLost(revoked),
		kgo.OnPartitionsRevoked(func(ctx context.Context, client *kgo.Client, partitions map[string][]int32) {
			_ = client.CommitUncommittedOffsets(ctx)
			revoked(ctx, client, partitions)
		}))
	if err != nil {
		return nil, err
	}
	self.client = client
	go func() {
		defer close(self.done)
		for {
			fetches := client.PollFetches(context.Background())
			if fetches.IsClientClosed() {
				return
			}
			fetches.EachRecord(func(record *kgo.Record) { seen.Store(string(record.Value), true) })
		}
	}()
	return self, nil
}

func (m *member) partitions() int {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	return len(m.owned)
}

func (m *member) leave() {
	m.client.Close()
	<-m.done
}

func groupRebalance(ctx context.Context, suffix string, balancer kgo.GroupBalancer) error {
	topic, err := create(ctx, "rebalance-"+suffix, partitions)
	if err != nil {
		return err
	}
	group := name("group-rebalance-" + suffix)
	seen := &sync.Map{}
	round := func(from, to int) error {
		records := make([]*kgo.Record, 0, to-from)
		for i := from; i < to; i++ {
			records = append(records, &kgo.Record{Key: fmt.Append(nil, i), Value: fmt.Append(nil, i)})
		}
		if err := produceWith(ctx, topic, records); err != nil {
			return err
		}
		return until(ctx, fmt.Sprintf("all records up to %d", to), func() (bool, error) {
			count := 0
			seen.Range(func(any, any) bool { count++; return true })
			return count == to, nil
		})
	}
	first, err := join(topic, group, balancer, seen)
	if err != nil {
		return err
	}
	defer first.leave()
	if err := until(ctx, "the first member has all", func() (bool, error) { return first.partitions() == partitions, nil }); err != nil {
		return err
	}
	if err := round(0, 200); err != nil {
		return err
	}
	second, err := join(topic, group, balancer, seen)
	if err != nil {
		return err
	}
	if err := until(ctx, "two each", func() (bool, error) {
		return first.partitions() == partitions/2 && second.partitions() == partitions/2, nil
	}); err != nil {
		second.leave()
		return err
	}
	if err := round(200, 400); err != nil {
		second.leave()
		return err
	}
	second.leave()
	if err := until(ctx, "the first has all again", func() (bool, error) { return first.partitions() == partitions, nil }); err != nil {
		return err
	}
	if err := round(400, 600); err != nil {
		return err
	}
	return until(ctx, "600 committed", func() (bool, error) {
		committed, err := admin.FetchOffsets(ctx, group)
		var sum int64
		committed.Each(func(offset kadm.OffsetResponse) { sum += offset.At })
		return sum == 600, err
	})
}

func commitAndRestart(ctx context.Context) error {
	topic, err := create(ctx, "restart", 1)
	if err != nil {
		return err
	}
	records := make([]*kgo.Record, 100)
	for i := range records {
		records[i] = &kgo.Record{Value: text(i)}
	}
	if err := produce(ctx, topic, records...); err != nil {
		return err
	}
	group := name("group-restart")
	for _, step := range []struct{ from, to int64 }{{0, 40}, {40, 100}} {
		client, err := kgo.NewClient(kgo.SeedBrokers(servers...), kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit())
		if err != nil {
			return err
		}
		next := step.from
		for next < step.to {
			fetches := client.PollRecords(ctx, int(step.to-next))
			if err := fetches.Err(); err != nil {
				client.Close()
				return err
			}
			for _, record := range fetches.Records() {
				if record.Offset != next {
					client.Close()
					return fmt.Errorf("offset %d where %d is due", record.Offset, next)
				}
				next++
				if err := client.CommitRecords(ctx, record); err != nil {
					client.Close()
					return err
				}
			}
		}
		client.Close()
	}
	return nil
}

func seek(ctx context.Context) error {
	topic, err := create(ctx, "seek", 1)
	if err != nil {
		return err
	}
	records := make([]*kgo.Record, 100)
	for i := range records {
		records[i] = &kgo.Record{Value: text(i), Timestamp: time.UnixMilli(1_700_000_000_000 + int64(i)*1000)}
	}
	if err := produce(ctx, topic, records...); err != nil {
		return err
	}
	starts := map[int64]kgo.Offset{
		73: kgo.NewOffset().At(73),
		0:  kgo.NewOffset().AtStart(),
		99: kgo.NewOffset().AtEnd().Relative(-1),
		42: kgo.NewOffset().AfterMilli(1_700_000_041_500),
	}
	for expected, start := range starts {
		client, err := kgo.NewClient(kgo.SeedBrokers(servers...),
			kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: start}}))
		if err != nil {
			return err
		}
		fetches := client.PollRecords(ctx, 1)
		client.Close()
		if err := fetches.Err(); err != nil {
			return err
		}
		if got := fetches.Records()[0].Offset; got != expected {
			return fmt.Errorf("offset %d where %d was asked for", got, expected)
		}
	}
	return nil
}

func offsets(ctx context.Context) error {
	topic, err := create(ctx, "offsets", 1)
	if err != nil {
		return err
	}
	for _, stamp := range []int64{1000, 5000, 3000, 5000, 2000} {
		if err := produce(ctx, topic, &kgo.Record{Timestamp: time.UnixMilli(1_700_000_000_000 + stamp)}); err != nil {
			return err
		}
	}
	lists := map[int64]func() (kadm.ListedOffsets, error){
		0: func() (kadm.ListedOffsets, error) { return admin.ListStartOffsets(ctx, topic) },
		5: func() (kadm.ListedOffsets, error) { return admin.ListEndOffsets(ctx, topic) },
		1: func() (kadm.ListedOffsets, error) { return admin.ListOffsetsAfterMilli(ctx, 1_700_000_001_500, topic) },
	}
	for expected, list := range lists {
		listed, err := list()
		if err != nil {
			return err
		}
		if got, _ := listed.Lookup(topic, 0); got.Err != nil || got.Offset != expected {
			return fmt.Errorf("offset %d where %d is due: %v", got.Offset, expected, got.Err)
		}
	}
	return nil
}

func groupsAdmin(ctx context.Context) error {
	topic, err := create(ctx, "groups", 1)
	if err != nil {
		return err
	}
	group := name("group-admin")
	commit := kadm.Offsets{}
	commit.AddOffset(topic, 0, 3, -1)
	if err := admin.CommitAllOffsets(ctx, group, commit); err != nil {
		return err
	}
	listed, err := admin.ListGroups(ctx)
	if err != nil || !slices.Contains(listed.Groups(), group) {
		return fmt.Errorf("not listed: %v", err)
	}
	described, err := admin.DescribeGroups(ctx, group)
	if err != nil || described[group].State != "Empty" {
		return fmt.Errorf("state %q: %v", described[group].State, err)
	}
	if _, err := admin.DeleteGroup(ctx, group); err != nil {
		return err
	}
	if _, err := admin.DeleteGroup(ctx, group); !errors.Is(err, kerr.GroupIDNotFound) {
		return fmt.Errorf("deleted twice: %v", err)
	}
	return nil
}

// topicRecreated reads on through a topic's deletion and return under a new id.
func topicRecreated(ctx context.Context) error {
	topic, err := create(ctx, "recreated", 1)
	if err != nil {
		return err
	}
	if err := produce(ctx, topic, &kgo.Record{Value: []byte("before")}); err != nil {
		return err
	}
	if response, err := admin.DeleteTopics(ctx, topic); err != nil || response[topic].Err != nil {
		return fmt.Errorf("deleting: %v %v", err, response[topic].Err)
	}
	if err := until(ctx, "created again", func() (bool, error) {
		_, err := create(ctx, "recreated", 1)
		return err == nil, nil
	}); err != nil {
		return err
	}
	if err := produce(ctx, topic, &kgo.Record{Value: []byte("after")}); err != nil {
		return err
	}
	read, err := readAll(ctx, topic, 1)
	if err != nil {
		return err
	}
	if read[0].Offset != 0 || string(read[0].Value) != "after" {
		return fmt.Errorf("read %q at %d", read[0].Value, read[0].Offset)
	}
	return nil
}

// What the checks share.

func name(suffix string) string { return prefix + "-" + suffix }

func number(text string) int {
	value, _ := strconv.Atoi(text)
	return value
}

func text(number int) []byte {
	return fmt.Appendf(nil, "record %d %s", number, strings.Repeat("abcdefghij", number%20))
}

func create(ctx context.Context, suffix string, count int32) (string, error) {
	_, err := admin.CreateTopic(ctx, count, 1, nil, name(suffix))
	return name(suffix), err
}

func produce(ctx context.Context, topic string, records ...*kgo.Record) error {
	return produceWith(ctx, topic, records)
}

func produceWith(ctx context.Context, topic string, records []*kgo.Record, options ...kgo.Opt) error {
	base := []kgo.Opt{kgo.SeedBrokers(servers...), kgo.DefaultProduceTopic(topic)}
	client, err := kgo.NewClient(append(base, options...)...)
	if err != nil {
		return err
	}
	defer client.Close()
	return client.ProduceSync(ctx, records...).FirstErr()
}

func readAll(ctx context.Context, topic string, count int) ([]*kgo.Record, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(servers...), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	var records []*kgo.Record
	for len(records) < count {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return nil, fmt.Errorf("after %d of %d records: %w", len(records), count, err)
		}
		records = append(records, fetches.Records()...)
	}
	if len(records) != count {
		return nil, fmt.Errorf("%d records where %d are due", len(records), count)
	}
	return records, nil
}

func until(ctx context.Context, what string, condition func() (bool, error)) error {
	for {
		holds, err := condition()
		if holds {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not in time: %s (%v)", what, err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

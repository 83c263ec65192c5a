// Tries a broker with sarama. Usage: check SERVERS PREFIX [CHECK ...]
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

const (
	partitions = 4
	limit      = time.Minute
)

var (
	// Of what is tried one node is restarted now and then.
	restarts = os.Getenv("CHECK_RESTARTS") != ""

	servers []string
	prefix  string
	admin   sarama.ClusterAdmin
)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: check SERVERS PREFIX [CHECK ...]")
		os.Exit(2)
	}
	servers, prefix = strings.Split(os.Args[1], ","), os.Args[2]
	wanted := os.Args[3:]
	var err error
	if admin, err = sarama.NewClusterAdmin(servers, settings()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	checks := []struct {
		name string
		run  func() error
	}{
		{"topics", topics},
		{"configs", configs},
		{"compressions", compressions},
		{"record_fields", recordFields},
		{"acks", acks},
		{"idempotence", idempotence},
		{"large_records", largeRecords},
		{"group_rebalance", groupRebalance},
		{"commit_and_restart", commitAndRestart},
		{"offsets", offsets},
		{"groups_admin", groupsAdmin},
		{"old_protocol", oldProtocol},
	}
	failed := 0
	for _, check := range checks {
		if len(wanted) > 0 && !slices.Contains(wanted, check.name) {
			continue
		}
		started := time.Now()
		if err := check.run(); err != nil {
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

// settings picks a protocol version: sarama does not negotiate, it uses what the version promises.
func settings() *sarama.Config {
	config := sarama.NewConfig()
	config.Version = sarama.V4_1_0_0
	config.Producer.Return.Successes = true
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Partitioner = sarama.NewManualPartitioner
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Group.Heartbeat.Interval = 300 * time.Millisecond
	config.Consumer.Group.Session.Timeout = 10 * time.Second
	config.Consumer.MaxWaitTime = 200 * time.Millisecond
	if restarts {
		config.Producer.Idempotent = true
		config.Net.MaxOpenRequests = 1
		// As delivered it gives up after 0.3 s, which the loss of a node takes longer than.
		config.Producer.Retry.Max = 100
		config.Metadata.Retry.Max = 20
		config.Admin.Retry.Max = 100
	}
	return config
}

func topics() error {
	topic, err := create("topics", partitions)
	if err != nil {
		return err
	}
	described, err := admin.DescribeTopics([]string{topic})
	if err != nil {
		return err
	}
	if got := len(described[0].Partitions); got != partitions {
		return fmt.Errorf("%d partitions", got)
	}
	if _, err := create("topics", 1); !errors.Is(err, sarama.ErrTopicAlreadyExists) {
		return fmt.Errorf("created twice: %v", err)
	}
	if err := admin.CreatePartitions(topic, partitions+2, nil, false); err != nil {
		return err
	}
	if err := until("six partitions", func() (bool, error) {
		described, err := admin.DescribeTopics([]string{topic})
		return err == nil && len(described[0].Partitions) == partitions+2, err
	}); err != nil {
		return err
	}
	if err := admin.DeleteTopic(topic); err != nil {
		return err
	}
	return until("deleted", func() (bool, error) {
		all, err := admin.ListTopics()
		_, there := all[topic]
		return err == nil && !there, err
	})
}

func configs() error {
	topic, err := create("configs", 1)
	if err != nil {
		return err
	}
	value := func() (string, error) {
		entries, err := admin.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: topic})
		for _, entry := range entries {
			if entry.Name == "max.message.bytes" {
				return entry.Value, err
			}
		}
		return "", fmt.Errorf("max.message.bytes is not described: %v", err)
	}
	if got, err := value(); err != nil || got != "1048588" {
		return fmt.Errorf("the default of max.message.bytes: %q, %v", got, err)
	}
	changed := "2000000"
	if err := admin.IncrementalAlterConfig(sarama.TopicResource, topic, map[string]sarama.IncrementalAlterConfigsEntry{
		"max.message.bytes": {Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &changed},
	}, false); err != nil {
		return err
	}
	return until("altered", func() (bool, error) {
		got, err := value()
		return got == changed, err
	})
}

func compressions() error {
	for _, codec := range []sarama.CompressionCodec{
		sarama.CompressionNone, sarama.CompressionGZIP, sarama.CompressionSnappy, sarama.CompressionLZ4, sarama.CompressionZSTD,
	} {
		topic, err := create("codec-"+codec.String(), 1)
		if err != nil {
			return err
		}
		config := settings()
		config.Producer.Compression = codec
		messages := make([]*sarama.ProducerMessage, 1000)
		for i := range messages {
			key := sarama.StringEncoder(fmt.Sprintf("key %d", i))
			messages[i] = &sarama.ProducerMessage{Topic: topic, Key: key, Value: sarama.ByteEncoder(text(i))}
		}
		if err := send(config, messages); err != nil {
			return fmt.Errorf("%v: %w", codec, err)
		}
		read, err := readAll(settings(), topic, 0, 1000)
		if err != nil {
			return fmt.Errorf("%v: %w", codec, err)
		}
		for i, message := range read {
			if message.Offset != int64(i) || !bytes.Equal(message.Value, text(i)) || string(message.Key) != fmt.Sprintf("key %d", i) {
				return fmt.Errorf("%v: record %d differs", codec, i)
			}
		}
	}
	return nil
}

func recordFields() error {
	topic, err := create("fields", 1)
	if err != nil {
		return err
	}
	stamp := time.UnixMilli(1_600_000_000_123)
	headers := []sarama.RecordHeader{{Key: []byte("name"), Value: []byte("header")}, {Key: []byte("none")}}
	value := sarama.StringEncoder("value")
	if err := send(settings(), []*sarama.ProducerMessage{
		{Topic: topic, Key: sarama.StringEncoder("key"), Value: value, Headers: headers, Timestamp: stamp},
		{Topic: topic, Value: value, Timestamp: stamp},
		{Topic: topic, Key: sarama.StringEncoder("tombstone"), Timestamp: stamp},
	}); err != nil {
		return err
	}
	read, err := readAll(settings(), topic, 0, 3)
	if err != nil {
		return err
	}
	switch full := read[0]; {
	case !full.Timestamp.Equal(stamp):
		return fmt.Errorf("timestamp %v", full.Timestamp)
	case len(full.Headers) != 2 || string(full.Headers[0].Value) != "header" || full.Headers[1].Value != nil:
		return fmt.Errorf("headers %v", full.Headers)
	case read[1].Key != nil:
		return errors.New("the null key is not null")
	case read[2].Value != nil:
		return errors.New("the null value is not null")
	}
	return nil
}

func acks() error {
	topic, err := create("acks", 1)
	if err != nil {
		return err
	}
	levels := []sarama.RequiredAcks{sarama.NoResponse, sarama.WaitForLocal, sarama.WaitForAll}
	if restarts {
		// While a node stops, records that nobody answers may be lost, and those sent again may be there twice.
		levels = levels[2:]
	}
	for index, level := range levels {
		config := settings()
		config.Producer.RequiredAcks = level
		messages := make([]*sarama.ProducerMessage, 100)
		for i := range messages {
			messages[i] = &sarama.ProducerMessage{Topic: topic, Value: sarama.ByteEncoder(text(i))}
		}
		if err := send(config, messages); err != nil {
			return err
		}
		if _, err := readAll(settings(), topic, 0, 100*(index+1)); err != nil {
			return err
		}
	}
	return nil
}

func idempotence() error {
	topic, err := create("idempotent", 1)
	if err != nil {
		return err
	}
	config := settings()
	config.Producer.Idempotent = true
	config.Net.MaxOpenRequests = 1
	messages := make([]*sarama.ProducerMessage, 5000)
	for i := range messages {
		messages[i] = &sarama.ProducerMessage{Topic: topic, Value: sarama.ByteEncoder(text(i))}
	}
	if err := send(config, messages); err != nil {
		return err
	}
	read, err := readAll(settings(), topic, 0, len(messages))
	if err != nil {
		return err
	}
	for i, message := range read {
		if !bytes.Equal(message.Value, text(i)) {
			return fmt.Errorf("record %d is out of order", i)
		}
	}
	return nil
}

func largeRecords() error {
	topic, err := create("large", 1)
	if err != nil {
		return err
	}
	config := settings()
	config.Producer.MaxMessageBytes = 20_000_000
	million := make([]byte, 1_000_000)
	rand.Read(million)
	for range 4 {
		if err := send(config, []*sarama.ProducerMessage{{Topic: topic, Value: sarama.ByteEncoder(million)}}); err != nil {
			return err
		}
	}
	err = send(config, []*sarama.ProducerMessage{{Topic: topic, Value: sarama.ByteEncoder(make([]byte, 1_100_000))}})
	var failures sarama.ProducerErrors
	if !errors.As(err, &failures) || !errors.Is(failures[0].Err, sarama.ErrMessageSizeTooLarge) {
		return fmt.Errorf("a record above the limit: %v", err)
	}
	read, err := readAll(settings(), topic, 0, 4)
	if err != nil {
		return err
	}
	for _, message := range read {
		if !bytes.Equal(message.Value, million) {
			return errors.New("a large value differs")
		}
	}
	return nil
}

// member is one consumer of a group; it adds what it reads to `seen`.
type member struct {
	group  sarama.ConsumerGroup
	seen   *sync.Map
	cancel context.CancelFunc
	done   chan struct{}

	mutex sync.Mutex
	owned int
}

func (m *member) Setup(session sarama.ConsumerGroupSession) error {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.owned = 0
	for _, claimed := range session.Claims() {
		m.owned += len(claimed)
	}
	return nil
}

func (m *member) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (m *member) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case message, open := <-claim.Messages():
			if !open {
				return nil
			}
			m.seen.Store(string(message.Value), true)
			session.MarkMessage(message, "")
		case <-session.Context().Done():
			return nil
		}
	}
}

func join(topic, name string, seen *sync.Map) (*member, error) {
	group, err := sarama.NewConsumerGroup(servers, name, settings())
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	self := &member{group: group, seen: seen, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(self.done)
		for ctx.Err() == nil {
			_ = group.Consume(ctx, []string{topic}, self)
		}
	}()
	return self, nil
}

func (m *member) partitions() int {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	return m.owned
}

func (m *member) leave() {
	m.cancel()
	<-m.done
	_ = m.group.Close()
}

func groupRebalance() error {
	topic, err := create("rebalance", partitions)
	if err != nil {
		return err
	}
	group, seen := name("group-rebalance"), &sync.Map{}
	round := func(from, to int) error {
		var messages []*sarama.ProducerMessage
		for i := from; i < to; i++ {
			value := sarama.StringEncoder(fmt.Sprint(i))
			messages = append(messages, &sarama.ProducerMessage{Topic: topic, Partition: int32(i % partitions), Value: value})
		}
		if err := send(settings(), messages); err != nil {
			return err
		}
		return until(fmt.Sprintf("all records up to %d", to), func() (bool, error) {
			count := 0
			seen.Range(func(any, any) bool { count++; return true })
			return count == to, nil
		})
	}
	first, err := join(topic, group, seen)
	if err != nil {
		return err
	}
	if err := until("the first member has all", func() (bool, error) { return first.partitions() == partitions, nil }); err != nil {
		return err
	}
	if err := round(0, 200); err != nil {
		return err
	}
	second, err := join(topic, group, seen)
	if err != nil {
		return err
	}
	if err := until("two each", func() (bool, error) {
		return first.partitions() == partitions/2 && second.partitions() == partitions/2, nil
	}); err != nil {
		return err
	}
	if err := round(200, 400); err != nil {
		return err
	}
	second.leave()
	if err := until("the first has all again", func() (bool, error) { return first.partitions() == partitions, nil }); err != nil {
		return err
	}
	if err := round(400, 600); err != nil {
		return err
	}
	first.leave()
	committed, err := admin.ListConsumerGroupOffsets(group, map[string][]int32{topic: {0, 1, 2, 3}})
	if err != nil {
		return err
	}
	var sum int64
	for _, block := range committed.Blocks[topic] {
		sum += block.Offset
	}
	if sum != 600 {
		return fmt.Errorf("%d committed", sum)
	}
	return nil
}

func commitAndRestart() error {
	topic, err := create("restart", 1)
	if err != nil {
		return err
	}
	group := name("group-restart")
	for _, total := range []int{40, 100} {
		var messages []*sarama.ProducerMessage
		for i := total - map[int]int{40: 40, 100: 60}[total]; i < total; i++ {
			messages = append(messages, &sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder(fmt.Sprint(i))})
		}
		if err := send(settings(), messages); err != nil {
			return err
		}
		seen := &sync.Map{}
		reader, err := join(topic, group, seen)
		if err != nil {
			return err
		}
		err = until("the records of this start", func() (bool, error) {
			count := 0
			seen.Range(func(any, any) bool { count++; return true })
			return count == len(messages), nil
		})
		reader.leave()
		if err != nil {
			return err
		}
		if _, again := seen.Load("0"); total == 100 && again {
			return errors.New("a committed record came again")
		}
	}
	return nil
}

func offsets() error {
	topic, err := create("offsets", 1)
	if err != nil {
		return err
	}
	for _, stamp := range []int64{1000, 5000, 3000, 5000, 2000} {
		message := &sarama.ProducerMessage{Topic: topic, Timestamp: time.UnixMilli(1_700_000_000_000 + stamp)}
		if err := send(settings(), []*sarama.ProducerMessage{message}); err != nil {
			return err
		}
	}
	client, err := sarama.NewClient(servers, settings())
	if err != nil {
		return err
	}
	defer client.Close()
	for at, expected := range map[int64]int64{sarama.OffsetOldest: 0, sarama.OffsetNewest: 5, 1_700_000_001_500: 1} {
		got, err := client.GetOffset(topic, 0, at)
		if err != nil || got != expected {
			return fmt.Errorf("offset %d at %d: %v", got, at, err)
		}
	}
	read, err := readAll(settings(), topic, 3, 2)
	if err != nil {
		return err
	}
	if read[0].Offset != 3 {
		return fmt.Errorf("the first record from offset 3 has %d", read[0].Offset)
	}
	return nil
}

func groupsAdmin() error {
	topic, err := create("groups", 1)
	if err != nil {
		return err
	}
	group, seen := name("group-admin"), &sync.Map{}
	if err := send(settings(), []*sarama.ProducerMessage{{Topic: topic, Value: sarama.StringEncoder("x")}}); err != nil {
		return err
	}
	reader, err := join(topic, group, seen)
	if err != nil {
		return err
	}
	if err := until("one record", func() (bool, error) { _, found := seen.Load("x"); return found, nil }); err != nil {
		return err
	}
	described, err := admin.DescribeConsumerGroups([]string{group})
	if err != nil || described[0].State != "Stable" || len(described[0].Members) != 1 {
		return fmt.Errorf("described: %v %v", described, err)
	}
	listed, err := admin.ListConsumerGroups()
	if err != nil {
		return err
	}
	if listed[group] != "consumer" {
		return fmt.Errorf("listed as %q", listed[group])
	}
	reader.leave()
	if err := admin.DeleteConsumerGroup(group); err != nil {
		return err
	}
	return nil
}

// oldProtocol sends what a client of Kafka 2.1 sends: the oldest encodings that 4.x brokers still read.
func oldProtocol() error {
	config := settings()
	config.Version = sarama.V2_1_0_0
	topic, err := create("old", 1)
	if err != nil {
		return err
	}
	messages := make([]*sarama.ProducerMessage, 100)
	for i := range messages {
		messages[i] = &sarama.ProducerMessage{Topic: topic, Value: sarama.ByteEncoder(text(i))}
	}
	if err := send(config, messages); err != nil {
		return err
	}
	_, err = readAll(config, topic, 0, 100)
	return err
}

// What the checks share.

func name(suffix string) string { return prefix + "-" + suffix }

func text(number int) []byte {
	return fmt.Appendf(nil, "record %d %s", number, strings.Repeat("abcdefghij", number%20))
}

func create(suffix string, count int32) (string, error) {
	err := admin.CreateTopic(name(suffix), &sarama.TopicDetail{NumPartitions: count, ReplicationFactor: 1}, false)
	if err != nil {
		return "", err
	}
	return name(suffix), until("every partition has a leader", func() (bool, error) {
		described, err := admin.DescribeTopics([]string{name(suffix)})
		if err != nil || len(described[0].Partitions) != int(count) {
			return false, err
		}
		for _, partition := range described[0].Partitions {
			if partition.Leader < 0 {
				return false, nil
			}
		}
		return true, nil
	})
}

func send(config *sarama.Config, messages []*sarama.ProducerMessage) error {
	producer, err := sarama.NewSyncProducer(servers, config)
	if err != nil {
		return err
	}
	defer producer.Close()
	return producer.SendMessages(messages)
}

func readAll(config *sarama.Config, topic string, from int64, count int) ([]*sarama.ConsumerMessage, error) {
	consumer, err := sarama.NewConsumer(servers, config)
	if err != nil {
		return nil, err
	}
	defer consumer.Close()
	partition, err := consumer.ConsumePartition(topic, 0, from)
	if err != nil {
		return nil, err
	}
	defer partition.Close()
	deadline := time.After(limit)
	var messages []*sarama.ConsumerMessage
	for len(messages) < count {
		select {
		case message := <-partition.Messages():
			messages = append(messages, message)
		case <-deadline:
			return nil, fmt.Errorf("%d of %d records", len(messages), count)
		}
	}
	return messages, nil
}

func until(what string, condition func() (bool, error)) error {
	deadline := time.Now().Add(limit)
	for {
		holds, err := condition()
		if holds {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not within a minute: %s (%v)", what, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

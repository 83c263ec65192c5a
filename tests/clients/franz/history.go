package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	inFlightMax = 2000
	flushLimit  = 150 * time.Second
	readLimit   = 120 * time.Second
)

// Writers and readers with franz-go that write down what they do: see history.md. One of the group's members also
// watches what the group has committed.
type historian struct {
	options     map[string]string
	topic, name string
	partitions  int
	acked       atomic.Int64
	finish, end context.Context
	aborted     context.Context
	ends        map[int32]int64
}

func history(words []string) int {
	options := map[string]string{}
	for _, word := range words {
		key, value, _ := strings.Cut(word, "=")
		options[key] = value
	}
	h := &historian{options: options, topic: options["topic"], name: options["name"], ends: map[int32]int64{}}
	h.partitions = h.count("partitions")
	var finish, end, abort context.CancelFunc
	h.finish, finish = context.WithCancel(context.Background())
	h.end, end = context.WithCancel(context.Background())
	h.aborted, abort = context.WithCancel(context.Background())
	defer finish()
	defer end()
	var writers, readers sync.WaitGroup
	start := func(group *sync.WaitGroup, count int, task func(int) error) {
		for index := range count {
			group.Go(func() {
				if err := task(index); err != nil {
					fmt.Fprintln(os.Stderr, err)
				}
			})
		}
	}
	start(&writers, h.count("writers"), h.write)
	start(&readers, h.count("readers"), h.read)
	start(&readers, h.count("members"), h.takePart)
	if h.count("members") > 0 {
		start(&readers, 1, h.watch)
	}
	go func() {
		for {
			fmt.Printf("acked %d\n", h.acked.Load())
			time.Sleep(500 * time.Millisecond)
		}
	}()
	status := 1
	input := bufio.NewScanner(os.Stdin)
	for input.Scan() {
		words := strings.Fields(input.Text())
		if len(words) == 0 {
			continue
		}
		if words[0] == "finish" {
			finish()
			fmt.Println(either(joined(&writers, flushLimit+10*time.Second), "written", "stuck"))
		}
		if words[0] == "end" {
			for _, word := range words[1:] {
				partition, offset, _ := strings.Cut(word, ":")
				number, _ := strconv.Atoi(partition)
				h.ends[int32(number)], _ = strconv.ParseInt(offset, 10, 64)
			}
			end()
			done := joined(&readers, readLimit)
			fmt.Println(either(done, "read", "behind"))
			if done {
				status = 0
			}
			break
		}
	}
	abort()
	joined(&writers, 5*time.Second)
	joined(&readers, 5*time.Second)
	return status
}

func either(condition bool, yes, no string) string {
	if condition {
		return yes
	}
	return no
}

func joined(group *sync.WaitGroup, limit time.Duration) bool {
	done := make(chan struct{})
	go func() {
		group.Wait()
		close(done)
	}()
	select {
	case <-done:
		return true
	case <-time.After(limit):
		return false
	}
}

func (h *historian) count(key string) int {
	count, _ := strconv.Atoi(h.options[key])
	return count
}

// A participant's file.
type lines struct {
	mutex sync.Mutex
	file  *os.File
	to    *bufio.Writer
}

type fields map[string]any

func (h *historian) lines(participant, role, group string) (*lines, error) {
	file, err := os.Create(filepath.Join(h.options["dir"], participant+".jsonl"))
	if err != nil {
		return nil, err
	}
	l := &lines{file: file, to: bufio.NewWriter(file)}
	head := fields{"participant": participant, "client": "franz-go", "role": role}
	if group != "" {
		head["group"] = group
	}
	l.put(head)
	return l, nil
}

func (l *lines) put(line fields) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	text, err := json.Marshal(line)
	if err != nil {
		panic(err)
	}
	l.to.Write(text)
	l.to.WriteByte('\n')
}

func (l *lines) say(kind, function string, more fields) {
	line := fields{"t": time.Now().UnixMilli(), "type": kind, "f": function}
	for key, value := range more {
		line[key] = value
	}
	l.put(line)
}

func (l *lines) close() {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.to.Flush()
	l.file.Close()
}

func (h *historian) client(options ...kgo.Opt) (*kgo.Client, error) {
	shared := []kgo.Opt{kgo.SeedBrokers(strings.Split(h.options["servers"], ",")...)}
	return kgo.NewClient(append(shared, options...)...)
}

func (h *historian) write(index int) error {
	for incarnation := 0; h.finish.Err() == nil; incarnation++ {
		participant := fmt.Sprintf("%s-w%d.%d", h.name, index, incarnation)
		l, err := h.lines(participant, "writer", "")
		if err != nil {
			return err
		}
		err = h.writeAs(participant, l)
		if err != nil {
			l.say("fatal", "send", fields{"error": err.Error()})
		}
		l.close()
	}
	return nil
}

// The error is what makes the producer useless.
func (h *historian) writeAs(participant string, l *lines) error {
	client, err := h.client(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(5*time.Millisecond),
		kgo.RecordDeliveryTimeout(120*time.Second), kgo.ProduceRequestTimeout(10*time.Second))
	if err != nil {
		return err
	}
	defer client.CloseAllowingRebalance()
	seed := fnv.New64()
	seed.Write([]byte(h.options["seed"] + participant))
	chance := rand.New(rand.NewSource(int64(seed.Sum64())))
	room := make(chan struct{}, inFlightMax)
	fatal := make(chan error, 1)
	rate := h.count("rate")
	began, next := time.Now(), 0
	var failed error
	for h.finish.Err() == nil && failed == nil {
		wanted := int(time.Since(began).Seconds() * float64(rate))
		if wanted-next > rate {
			// What could not be sent in time is not made up for at once.
			began, wanted = time.Now().Add(-time.Duration(next)*time.Second/time.Duration(rate)), next
		}
		for ; next < wanted && len(room) < inFlightMax; next++ {
			number, partition := next, chance.Int31n(int32(h.partitions))
			room <- struct{}{}
			l.say("invoke", "send", fields{"partition": partition, "number": number})
			value := fmt.Sprintf("%s/%d/%s", participant, number, strings.Repeat(".", chance.Intn(200)))
			record := &kgo.Record{Topic: h.topic, Partition: partition, Value: []byte(value)}
			client.Produce(context.Background(), record, func(record *kgo.Record, err error) {
				<-room
				if err == nil {
					h.acked.Add(1)
					l.say("ok", "send", fields{"partition": partition, "number": number, "offset": record.Offset})
					return
				}
				l.say("info", "send", fields{"partition": partition, "number": number, "error": err.Error()})
				if errors.Is(err, kerr.OutOfOrderSequenceNumber) || errors.Is(err, kerr.UnknownProducerID) ||
					errors.Is(err, kerr.InvalidProducerEpoch) || errors.Is(err, kgo.ErrRecordRetries) {
					select {
					case fatal <- err:
					default:
					}
				}
			})
		}
		select {
		case failed = <-fatal:
		case <-time.After(5 * time.Millisecond):
		}
	}
	limit := flushLimit
	if failed != nil {
		limit = 5 * time.Second
	}
	ctx, cancel := context.WithTimeout(h.aborted, limit)
	defer cancel()
	if err := client.Flush(ctx); err != nil {
		fmt.Fprintln(os.Stderr, participant, err)
	}
	return failed
}

// Writes down what one call returned, a line for each partition; the offsets behind it, by partition.
func (h *historian) poll(client *kgo.Client, l *lines) map[int32]int64 {
	ctx, cancel := context.WithTimeout(h.aborted, 200*time.Millisecond)
	defer cancel()
	fetches := client.PollFetches(ctx)
	fetches.EachError(func(_ string, partition int32, err error) {
		var lost *kgo.ErrDataLoss
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
			return
		}
		if errors.As(err, &lost) || errors.Is(err, kerr.OffsetOutOfRange) {
			l.say("fail", "poll", fields{"partition": partition, "error": err.Error()})
			return
		}
		l.say("info", "poll", fields{"error": err.Error()})
	})
	behind := map[int32]int64{}
	fetches.EachPartition(func(of kgo.FetchTopicPartition) {
		if len(of.Records) == 0 {
			return
		}
		var records [][2]any
		for _, record := range of.Records {
			parts := bytes.SplitN(record.Value, []byte("/"), 3)
			records = append(records, [2]any{record.Offset, string(bytes.Join(parts[:min(2, len(parts))], []byte("/")))})
			behind[of.Partition] = record.Offset + 1
		}
		l.say("ok", "poll", fields{"partition": of.Partition, "records": records})
	})
	return behind
}

func (h *historian) read(index int) error {
	l, err := h.lines(fmt.Sprintf("%s-r%d", h.name, index), "reader", "")
	if err != nil {
		return err
	}
	defer l.close()
	from := map[int32]kgo.Offset{}
	for partition := range h.partitions {
		from[int32(partition)] = kgo.NewOffset().At(0)
	}
	client, err := h.client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{h.topic: from}),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()))
	if err != nil {
		return err
	}
	defer client.CloseAllowingRebalance()
	positions := map[int32]int64{}
	for h.aborted.Err() == nil && !h.isBehindEnd(positions) {
		for partition, offset := range h.poll(client, l) {
			positions[partition] = offset
		}
	}
	return nil
}

func (h *historian) isBehindEnd(positions map[int32]int64) bool {
	if h.end.Err() == nil {
		return false
	}
	for partition, offset := range h.ends {
		if positions[partition] < offset {
			return false
		}
	}
	return true
}

func (h *historian) takePart(index int) error {
	group := h.options["group"]
	l, err := h.lines(fmt.Sprintf("%s-m%d", h.name, index), "reader", group)
	if err != nil {
		return err
	}
	defer l.close()
	assigned := func(_ context.Context, _ *kgo.Client, got map[string][]int32) {
		if len(got[h.topic]) > 0 {
			l.say("ok", "assign", fields{"partitions": got[h.topic]})
		}
	}
	// Rebalances wait while records are handled, so that what is committed is what this member still owns.
	client, err := h.client(kgo.ConsumerGroup(group), kgo.ConsumeTopics(h.topic), kgo.Balancers(kgo.RangeBalancer()),
		kgo.SessionTimeout(10*time.Second), kgo.DisableAutoCommit(), kgo.OnPartitionsAssigned(assigned),
		kgo.BlockRebalanceOnPoll(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return err
	}
	defer client.CloseAllowingRebalance()
	for h.aborted.Err() == nil && h.end.Err() == nil {
		behind := h.poll(client, l)
		if len(behind) > 0 {
			h.commit(client, l, behind)
		}
		client.AllowRebalance()
	}
	return nil
}

func (h *historian) commit(client *kgo.Client, l *lines, behind map[int32]int64) {
	offsets := map[string]map[int32]kgo.EpochOffset{h.topic: {}}
	var pairs [][2]int64
	for partition, offset := range behind {
		offsets[h.topic][partition] = kgo.EpochOffset{Epoch: -1, Offset: offset}
		pairs = append(pairs, [2]int64{int64(partition), offset})
	}
	ctx, cancel := context.WithTimeout(h.aborted, 30*time.Second)
	defer cancel()
	failed := error(nil)
	client.CommitOffsetsSync(ctx, offsets, func(_ *kgo.Client, request *kmsg.OffsetCommitRequest, response *kmsg.OffsetCommitResponse, err error) {
		failed = err
		if err != nil {
			return
		}
		for _, topic := range response.Topics {
			for _, partition := range topic.Partitions {
				if failed == nil {
					failed = kerr.ErrorForCode(partition.ErrorCode)
				}
			}
		}
	})
	if failed != nil {
		l.say("info", "commit", fields{"error": failed.Error()})
		return
	}
	l.say("ok", "commit", fields{"offsets": pairs})
}

func (h *historian) watch(int) error {
	group := h.options["group"]
	l, err := h.lines(h.name+"-watch", "reader", group)
	if err != nil {
		return err
	}
	defer l.close()
	client, err := h.client()
	if err != nil {
		return err
	}
	defer client.CloseAllowingRebalance()
	admin := kadm.NewClient(client)
	for h.aborted.Err() == nil && h.end.Err() == nil {
		began := time.Now().UnixMilli()
		ctx, cancel := context.WithTimeout(h.aborted, 5*time.Second)
		responses, err := admin.FetchOffsets(ctx, group)
		cancel()
		if err == nil {
			err = responses.Error()
		}
		if err != nil {
			l.say("info", "committed", fields{"error": err.Error()})
		} else {
			pairs := [][2]int64{}
			responses.Each(func(of kadm.OffsetResponse) {
				pairs = append(pairs, [2]int64{int64(of.Partition), of.At})
			})
			l.say("ok", "committed", fields{"began": began, "offsets": pairs})
		}
		select {
		case <-h.end.Done():
		case <-time.After(500 * time.Millisecond):
		}
	}
	return nil
}

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// layout says how a kind lays out its files, so that sentinels and shapes (segments, locks, files changed in place) are as with the real
// server. Paths are relative to the data directory.
type layout struct {
	logs, prefix, suffix string
	width                int
	// single keeps everything in one file that only grows.
	single bool
	// identity holds which member the directory belongs to; a server refuses another member's directory.
	identity, identityText string
	lock                   string
	// checkpoint is rewritten by rename, page is overwritten in place.
	checkpoint, page string
	extra            []string
}

var layouts = map[string]layout{
	"kafka": {logs: "ledger-0", width: 20, suffix: ".log", identity: "meta.properties",
		identityText: "version=0\nbroker.id={ordinal}\ncluster.id=lab\n", lock: ".lock", checkpoint: "recovery-point-offset-checkpoint"},
	"zookeeper": {logs: "version-2", prefix: "log.", identity: "myid", identityText: "{member}\n", extra: []string{"version-2/snapshot.0"}},
	"opensearch": {logs: "nodes/0/indices/ledger/0/translog", prefix: "translog-", suffix: ".tlog", identity: "nodes/0/_state/node-0.st",
		identityText: "node={name}\n", lock: "nodes/0/node.lock", checkpoint: "nodes/0/indices/ledger/0/translog/translog.ckp", page: "nodes/0/indices/ledger/0/index/_0.cfs"},
	"nsq": {logs: ".", prefix: "ledger.diskqueue.", width: 12, suffix: ".dat", identity: "nsqd.dat",
		identityText: `{"version":"1.2.1","topics":[{"name":"ledger","paused":false,"channels":[]}],"node":"{name}"}`},
	"policy-engine": {logs: "policies", prefix: "revision-", identity: "member", identityText: "{name}\n", page: "policies/index"},
	"prometheus": {logs: "wal", width: 8, identity: "member", identityText: "{name}\n", lock: "lock", page: "queries.active",
		extra: []string{"chunks_head/000001"}},
	"grafana":       {logs: ".", single: true, prefix: "grafana.db", identity: "plugins/member", identityText: "{name}\n"},
	"package-store": {logs: "packages", prefix: "index-", identity: "member", identityText: "{name}\n"},
	"mongodb": {logs: "journal", prefix: "WiredTigerLog.", width: 10, identity: "WiredTiger", identityText: "WiredTiger\nWiredTiger 10.0.2 ({name})\n",
		lock: "mongod.lock", checkpoint: "WiredTiger.turtle", page: "collection-0-7.wt", extra: []string{"WiredTiger.lock", "storage.bson"}},
	"nebula-graphd":    {logs: "records", prefix: "audit-", identity: "nebula-graphd.INFO", identityText: "graphd {name}\n"},
	"nebula-metad":     {logs: "nebula/0/wal/0", width: 19, suffix: ".wal", identity: "nebula/cluster.id", identityText: "metad {name}\n", page: "nebula/0/data/000005.sst"},
	"nebula-storaged":  {logs: "nebula/1/wal/1", width: 19, suffix: ".wal", identity: "nebula/cluster.id", identityText: "storaged {name}\n", page: "nebula/1/data/000005.sst"},
	"monitor-vlogs":    {logs: "partitions", prefix: "part-", identity: "member", identityText: "{name}\n", lock: "flock.lock"},
	"monitor-vmetrics": {logs: "data", prefix: "part-", identity: "member", identityText: "{name}\n", lock: "flock.lock"},
}

const segmentBytes = 256 << 10
const segmentsBeforeCompaction = 4

// store is an append-only log of lines `CRC32 OFFSET PAYLOAD` in segments named after their first offset. Offsets have no gap and no
// overlap: a directory with a file missing, or with one left over that was merged away, does not start.
type store struct {
	layout
	dir  string
	mu   sync.Mutex
	file *os.File
	base int64
	next int64
	size int64
	page *os.File
}

type segment struct {
	base int64
	path string
}

func (s *store) path(relative string) string { return filepath.Join(s.dir, relative) }

func (s *store) segmentPath(base int64) string {
	if s.single {
		return s.path(filepath.Join(s.logs, s.prefix))
	}
	return s.path(filepath.Join(s.logs, fmt.Sprintf("%s%0*d%s", s.prefix, s.width, base, s.suffix)))
}

func (s *store) segments() ([]segment, error) {
	entries, err := os.ReadDir(s.path(s.logs))
	if err != nil {
		return nil, err
	}
	var found []segment
	for _, entry := range entries {
		name := entry.Name()
		if s.single {
			if name == s.prefix {
				found = append(found, segment{0, s.segmentPath(0)})
			}
			continue
		}
		number, ok := strings.CutPrefix(name, s.prefix)
		if number, ok2 := strings.CutSuffix(number, s.suffix); ok && ok2 {
			if base, err := strconv.ParseInt(number, 10, 64); err == nil {
				found = append(found, segment{base, filepath.Join(s.path(s.logs), name)})
			}
		}
	}
	sort.Slice(found, func(i, j int) bool { return found[i].base < found[j].base })
	return found, nil
}

func openStore(kind, dir, name string) (*store, error) {
	l, ok := layouts[kind]
	if !ok {
		return nil, fmt.Errorf("no such kind: %s", kind)
	}
	s := &store{layout: l, dir: dir}
	if err := s.claim(name); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(s.path(s.logs), 0o755); err != nil {
		return nil, err
	}
	if err := s.finishCompaction(); err != nil {
		return nil, err
	}
	if err := s.replay(); err != nil {
		return nil, err
	}
	if s.layout.page != "" {
		path := s.path(s.layout.page)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return nil, err
		}
		page, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			return nil, err
		}
		s.page = page
		if err := page.Truncate(64 << 10); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// claim takes the lock, checks or writes the identity and lays out the other files of a new directory.
func (s *store) claim(name string) error {
	ordinal, err := strconv.Atoi(name[strings.LastIndex(name, "-")+1:])
	if err != nil {
		return fmt.Errorf("pod name %q has no ordinal", name)
	}
	if s.lock != "" {
		path := s.path(s.lock)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			return err
		}
		if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			return fmt.Errorf("%s is locked by another process: %w", path, err)
		}
		// kept open on purpose: the lock ends with the process
		locks = append(locks, file)
	}
	text := strings.NewReplacer("{ordinal}", strconv.Itoa(ordinal), "{member}", strconv.Itoa(ordinal+1), "{name}", name).Replace(s.identityText)
	path := s.path(s.identity)
	held, err := os.ReadFile(path)
	if err == nil {
		if string(held) != text {
			return fmt.Errorf("%s belongs to another member: it says %q, this one is %q", path, string(held), text)
		}
		return nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	fmt.Println("empty data directory: starting a new, empty store")
	ensureFile(path, text)
	for _, extra := range s.extra {
		ensureFile(s.path(extra), "lab\n")
	}
	return nil
}

var locks []*os.File

// replay checks every record and cuts off a torn tail of the last segment, as a log after a crash may have.
func (s *store) replay() error {
	segments, err := s.segments()
	if err != nil {
		return err
	}
	for i, seg := range segments {
		if seg.base != s.next {
			return fmt.Errorf("%s: starts at offset %d where %d is expected: a file of the log is missing or left over", seg.path, seg.base, s.next)
		}
		good, next, err := scan(seg.path, s.next, nil)
		if err != nil {
			if i != len(segments)-1 || !errors.Is(err, errTorn) {
				return err
			}
			if err := os.Truncate(seg.path, good); err != nil {
				return err
			}
		}
		s.base, s.next, s.size = seg.base, next, good
	}
	if len(segments) == 0 {
		s.base = 0
	}
	file, err := os.OpenFile(s.segmentPath(s.base), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	s.file = file
	return nil
}

var errTorn = errors.New("the last record is incomplete")

// scan reads a segment that starts at offset `from`; returns the bytes of whole records and the next offset.
func scan(path string, from int64, each func(payload []byte) error) (good int64, next int64, err error) {
	file, err := os.Open(path)
	if err != nil {
		return 0, from, err
	}
	defer file.Close()
	reader := bufio.NewReaderSize(file, 64<<10)
	next = from
	for {
		line, err := reader.ReadBytes('\n')
		if err == io.EOF {
			if len(line) == 0 {
				return good, next, nil
			}
			return good, next, errTorn
		}
		if err != nil {
			return good, next, err
		}
		body := line[:len(line)-1]
		sum, rest, ok := bytes.Cut(body, []byte(" "))
		if !ok || fmt.Sprintf("%08x", crc32.ChecksumIEEE(rest)) != string(sum) {
			return good, next, fmt.Errorf("%s: the record at byte %d is damaged", path, good)
		}
		number, payload, _ := bytes.Cut(rest, []byte(" "))
		if string(number) != strconv.FormatInt(next, 10) {
			return good, next, fmt.Errorf("%s: record %s stands where %d is expected", path, number, next)
		}
		if each != nil {
			if err := each(payload); err != nil {
				return good, next, err
			}
		}
		good += int64(len(line))
		next++
	}
}

// append writes lines and returns when they are on disk.
func (s *store) append(lines [][]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.size > segmentBytes && !s.single {
		if err := s.rotate(); err != nil {
			return err
		}
	}
	var out bytes.Buffer
	offset := s.next
	for _, line := range lines {
		rest := append([]byte(strconv.FormatInt(offset, 10)+" "), line...)
		fmt.Fprintf(&out, "%08x %s\n", crc32.ChecksumIEEE(rest), rest)
		offset++
	}
	if _, err := s.file.Write(out.Bytes()); err != nil {
		return err
	}
	if err := s.file.Sync(); err != nil {
		return err
	}
	s.next, s.size = offset, s.size+int64(out.Len())
	if s.page != nil {
		slot := fmt.Sprintf("%063d\n", offset)
		if _, err := s.page.WriteAt([]byte(slot), (offset%1024)*64); err != nil {
			return err
		}
	}
	return nil
}

func (s *store) rotate() error {
	if err := s.file.Close(); err != nil {
		return err
	}
	segments, err := s.segments()
	if err != nil {
		return err
	}
	if len(segments) >= segmentsBeforeCompaction {
		if err := s.compact(segments); err != nil {
			return err
		}
	}
	if s.checkpoint != "" {
		if err := replaceFile(s.path(s.checkpoint), []byte(fmt.Sprintf("0\n1\nledger 0 %d\n", s.next))); err != nil {
			return err
		}
	}
	s.base, s.size = s.next, 0
	s.file, err = os.OpenFile(s.segmentPath(s.base), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	return err
}

type compaction struct {
	Keep   string
	Remove []string
}

func (s *store) compactionPath() string { return s.path(filepath.Join(s.logs, "compaction.json")) }
func (s *store) mergedPath() string     { return s.path(filepath.Join(s.logs, "merged.tmp")) }

// compact merges segments into the first and removes the others, as real stores do: what was there a minute ago is gone.
func (s *store) compact(segments []segment) error {
	merged, err := os.Create(s.mergedPath())
	if err != nil {
		return err
	}
	for _, seg := range segments {
		part, err := os.Open(seg.path)
		if err != nil {
			return err
		}
		_, err = io.Copy(merged, part)
		part.Close()
		if err != nil {
			return err
		}
	}
	if err := errors.Join(merged.Sync(), merged.Close()); err != nil {
		return err
	}
	todo := compaction{Keep: filepath.Base(segments[0].path)}
	for _, seg := range segments[1:] {
		todo.Remove = append(todo.Remove, filepath.Base(seg.path))
	}
	text, _ := json.Marshal(todo)
	if err := replaceFile(s.compactionPath(), text); err != nil {
		return err
	}
	return s.finishCompaction()
}

// finishCompaction also runs at start, so that a server killed in between goes on where it was.
func (s *store) finishCompaction() error {
	text, err := os.ReadFile(s.compactionPath())
	if errors.Is(err, os.ErrNotExist) {
		os.Remove(s.mergedPath())
		return nil
	}
	if err != nil {
		return err
	}
	var todo compaction
	if err := json.Unmarshal(text, &todo); err != nil {
		return err
	}
	logs := s.path(s.logs)
	if err := os.Rename(s.mergedPath(), filepath.Join(logs, todo.Keep)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, name := range todo.Remove {
		if err := os.Remove(filepath.Join(logs, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return os.Remove(s.compactionPath())
}

func replaceFile(path string, text []byte) error {
	file, err := os.Create(path + ".tmp")
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}

func (s *store) each(visit func(payload []byte) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	segments, err := s.segments()
	if err != nil {
		return err
	}
	for _, seg := range segments {
		if _, _, err := scan(seg.path, seg.base, visit); err != nil {
			return err
		}
	}
	return nil
}

func serve(args []string) {
	option := flags(args)
	syscall.Umask(0o022)
	s, err := openStore(option["kind"], option["data"], os.Getenv("POD_NAME"))
	must(err, "cannot start "+option["kind"]+" on "+option["data"])
	fmt.Printf("%s: %d records\n", option["kind"], s.next)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("POST /append", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 8<<20))
		if err != nil || len(body) == 0 {
			http.Error(w, "no records", http.StatusBadRequest)
			return
		}
		lines := bytes.Split(bytes.TrimSuffix(body, []byte("\n")), []byte("\n"))
		if err := s.append(lines); err != nil {
			// a store that could not write does not know what is on disk; starting again finds out
			fail("append: %v", err)
		}
		fmt.Fprintln(w, len(lines))
	})
	mux.HandleFunc("GET /records", func(w http.ResponseWriter, _ *http.Request) {
		out := bufio.NewWriter(w)
		err := s.each(func(payload []byte) error {
			_, err := out.Write(append(payload, '\n'))
			return err
		})
		if err != nil {
			fmt.Fprintln(os.Stderr, "read:", err)
			panic(http.ErrAbortHandler)
		}
		out.Flush()
	})
	mux.HandleFunc("POST /seed", func(w http.ResponseWriter, r *http.Request) {
		size, _ := strconv.ParseInt(r.URL.Query().Get("bytes"), 10, 64)
		files, _ := strconv.Atoi(r.URL.Query().Get("files"))
		if err := seed(s.path("seed"), os.Getenv("POD_NAME"), size, files); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		respondTree(w, s.path("seed"))
	})
	mux.HandleFunc("GET /tree", func(w http.ResponseWriter, _ *http.Request) { respondTree(w, s.path("seed")) })
	server := &http.Server{Addr: ":" + option["port"], Handler: mux}
	go func() {
		<-terminated()
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		server.Shutdown(ctx)
	}()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		fail("%v", err)
	}
	s.mu.Lock()
	must(errors.Join(s.file.Sync(), s.file.Close()), "close")
}

func respondTree(w http.ResponseWriter, dir string) {
	found, err := tree(dir)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(found)
}

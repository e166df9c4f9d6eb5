// writer is the lab's own small data producer: it stands in for the servers of components whose real programs are too large for the lab,
// writes through all components as an application does, and keeps the ledger of what was acknowledged.
package main

import (
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const usage = `usage: writer COMMAND
  serve --kind KIND --data DIR --port N   a component's server: append with fsync, read back (files laid out as KIND does)
  client --targets FILE --ledger URL      writes through every component until stopped; what was acknowledged goes to the ledger
  ledger --listen ADDR --file FILE        keeps the ledger
  fill --bytes N                          writes N bytes of records to each target of stdin, prints ledger entries
  read                                    prints what each target of stdin holds as ledger entries
  mariadb DATADIR ARGS...                 prepares an empty data directory and becomes mariadbd
  job --seconds N                         runs for a while, like a CronJob
  logrotate DIR                           notes in DIR that logs were rotated: a writer that is not a server
  answer --port N                         answers every request with 200
  ensure-file PATH TEXT                   writes a file unless it exists
  chown UID:GID DIR                       hands over a directory and all in it
  nothing                                 ends at once
  idle                                    does nothing until told to end`

func main() {
	if len(os.Args) < 2 {
		fail(usage)
	}
	args := os.Args[2:]
	switch os.Args[1] {
	case "serve":
		serve(args)
	case "client":
		client(args)
	case "ledger":
		ledger(args)
	case "fill":
		fill(args)
	case "read":
		read()
	case "mariadb":
		mariadb(args)
	case "job":
		job(args)
	case "logrotate":
		must(replaceFile(filepath.Join(args[0], "logrotate.status"), []byte(time.Now().UTC().Format(time.RFC3339Nano)+"\n")), "rotate logs")
	case "answer":
		go func() {
			fail("%v", http.ListenAndServe(":"+flags(args)["port"], http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })))
		}()
		<-terminated()
	case "ensure-file":
		ensureFile(args[0], args[1])
	case "chown":
		chown(args[0], args[1])
	case "nothing":
	case "idle":
		<-terminated()
	default:
		fail(usage)
	}
}

func fail(format string, a ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", a...)
	os.Exit(1)
}

func must(err error, doing string) {
	if err != nil {
		fail("%s: %v", doing, err)
	}
}

func terminated() <-chan os.Signal {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	return stop
}

// flags reads --name value pairs.
func flags(args []string) map[string]string {
	found := map[string]string{}
	for i := 0; i+1 < len(args); i += 2 {
		found[strings.TrimPrefix(args[i], "--")] = args[i+1]
	}
	return found
}

func job(args []string) {
	seconds, _ := strconv.Atoi(flags(args)["seconds"])
	fmt.Println("started", time.Now().UTC().Format(time.RFC3339))
	select {
	case <-terminated():
	case <-time.After(time.Duration(seconds) * time.Second):
	}
	fmt.Println("ended", time.Now().UTC().Format(time.RFC3339))
}

func ensureFile(path, text string) {
	must(os.MkdirAll(filepath.Dir(path), 0o755), "make directory")
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if os.IsExist(err) {
		return
	}
	must(err, "create "+path)
	_, err = file.WriteString(text)
	must(err, "write "+path)
	must(file.Sync(), "sync "+path)
	must(file.Close(), "close "+path)
}

func chown(owner, dir string) {
	uid, gid, _ := strings.Cut(owner, ":")
	u, err := strconv.Atoi(uid)
	must(err, "owner")
	g, err := strconv.Atoi(gid)
	must(err, "group")
	must(filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, u, g)
	}), "chown "+dir)
}

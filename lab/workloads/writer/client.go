package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// source is a StatefulSet whose pods the client writes to.
type source struct {
	Component   string `json:"component"`
	Namespace   string `json:"namespace"`
	StatefulSet string `json:"statefulSet"`
	Port        int    `json:"port"`
	Protocol    string `json:"protocol"`
	// Secret with the account; keys `userKey` and `passwordKey`; `user` if it does not hold one.
	Secret      string `json:"secret,omitempty"`
	User        string `json:"user,omitempty"`
	UserKey     string `json:"userKey,omitempty"`
	PasswordKey string `json:"passwordKey,omitempty"`
}

const account = "/var/run/secrets/kubernetes.io/serviceaccount/"

type api struct {
	base string
	http *http.Client
}

func inCluster() *api {
	authority, err := os.ReadFile(account + "ca.crt")
	must(err, "read the cluster's CA")
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority)
	return &api{
		base: "https://" + net.JoinHostPort(os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT")),
		http: &http.Client{Timeout: limit, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}},
	}
}

func (a *api) get(path string, into any) error {
	token, err := os.ReadFile(account + "token")
	if err != nil {
		return err
	}
	request, err := http.NewRequest("GET", a.base+path, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+string(token))
	response, err := a.http.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", path, response.Status)
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(body, into)
}

// pods finds the address of each ready pod of the sources.
func (a *api) pods(sources []source) (map[string]target, error) {
	namespaces := map[string]bool{}
	for _, s := range sources {
		namespaces[s.Namespace] = true
	}
	found := map[string]target{}
	for namespace := range namespaces {
		var list struct {
			Items []struct {
				Metadata struct {
					Name              string
					DeletionTimestamp string
				}
				Status struct {
					PodIP      string
					Conditions []struct{ Type, Status string }
				}
			}
		}
		if err := a.get("/api/v1/namespaces/"+namespace+"/pods", &list); err != nil {
			return nil, err
		}
		for _, pod := range list.Items {
			cut := strings.LastIndex(pod.Metadata.Name, "-")
			ready := false
			for _, condition := range pod.Status.Conditions {
				ready = ready || (condition.Type == "Ready" && condition.Status == "True")
			}
			if cut < 0 || !ready || pod.Status.PodIP == "" || pod.Metadata.DeletionTimestamp != "" {
				continue
			}
			ordinal, err := strconv.Atoi(pod.Metadata.Name[cut+1:])
			if err != nil {
				continue
			}
			for _, s := range sources {
				if s.Namespace == namespace && s.StatefulSet == pod.Metadata.Name[:cut] {
					found[namespace+"/"+pod.Metadata.Name] = target{Component: s.Component, Ordinal: ordinal, Protocol: s.Protocol,
						Address: net.JoinHostPort(pod.Status.PodIP, strconv.Itoa(s.Port)), User: s.User}
				}
			}
		}
	}
	return found, nil
}

func (a *api) credentials(s source) (user, password string, err error) {
	if s.Secret == "" {
		return s.User, "", nil
	}
	var secret struct{ Data map[string]string }
	if err := a.get("/api/v1/namespaces/"+s.Namespace+"/secrets/"+s.Secret, &secret); err != nil {
		return "", "", err
	}
	value := func(key string) string {
		decoded, _ := base64.StdEncoding.DecodeString(secret.Data[key])
		return string(decoded)
	}
	user = s.User
	if s.UserKey != "" {
		user = value(s.UserKey)
	}
	return user, value(s.PasswordKey), nil
}

func randomText(bytes int) string {
	raw := make([]byte, (bytes+1)/2)
	rand.Read(raw)
	return hex.EncodeToString(raw)
}

// client writes one record per round to every ordinal of every component. A record counts once its server has acknowledged it: only then
// does it go to the ledger, which lies outside of what is migrated.
func client(args []string) {
	option := flags(args)
	text, err := os.ReadFile(option["targets"])
	must(err, "read targets")
	var sources []source
	must(json.Unmarshal(text, &sources), "parse targets")
	interval, err := time.ParseDuration(option["interval"])
	if err != nil {
		interval = time.Second
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-terminated(); cancel() }()
	kubernetes := inCluster()
	name := "w" + randomText(8)
	var mu sync.Mutex
	addresses := map[string]target{}
	acknowledged := make(chan entry, 4096)
	var writers sync.WaitGroup
	write := func(pod string, s source) {
		defer writers.Done()
		var open connection
		var address string
		for sequence := 1; ; sequence++ {
			select {
			case <-ctx.Done():
				if open != nil {
					open.close()
				}
				return
			case <-time.After(interval):
			}
			mu.Lock()
			t, ok := addresses[pod]
			mu.Unlock()
			if open != nil && (!ok || t.Address != address) {
				open.close()
				open = nil
			}
			if !ok {
				continue
			}
			if open == nil {
				var err error
				if t.User, t.Password, err = kubernetes.credentials(s); err == nil {
					open, err = t.connect()
				}
				if err != nil {
					fmt.Printf("%s: %v\n", pod, err)
					open = nil
					continue
				}
				address = t.Address
			}
			// the same key is never tried twice: a write that failed may still have happened
			r := record{fmt.Sprintf("%s-%09d", name, sequence), randomText(64)}
			if err := open.put([]record{r}); err != nil {
				fmt.Printf("%s: %v\n", pod, err)
				open.close()
				open = nil
				continue
			}
			done := t.entry(r.Key, r.Value)
			done.At = time.Now().UTC().Format(time.RFC3339Nano)
			acknowledged <- done
		}
	}
	flushed := make(chan struct{})
	go func() { defer close(flushed); deliver(option["ledger"], acknowledged) }()
	known := map[string]bool{}
	fmt.Println("client", name)
	for ctx.Err() == nil {
		found, err := kubernetes.pods(sources)
		if err != nil {
			fmt.Println("pods:", err)
		} else {
			mu.Lock()
			addresses = found
			mu.Unlock()
			for pod, t := range found {
				if known[pod] {
					continue
				}
				known[pod] = true
				for _, s := range sources {
					if s.Component == t.Component && strings.HasPrefix(pod, s.Namespace+"/"+s.StatefulSet+"-") {
						writers.Add(1)
						go write(pod, s)
						break
					}
				}
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(2 * time.Second):
		}
	}
	writers.Wait()
	close(acknowledged)
	select {
	case <-flushed:
	case <-time.After(20 * time.Second):
		fail("the ledger could not be reached; some acknowledged records are not in it")
	}
}

// deliver sends entries in batches and does not give up: without the ledger the client stops writing once the channel is full.
func deliver(url string, entries <-chan entry) {
	http := &http.Client{}
	for first := range entries {
		batch := []entry{first}
		for more := true; more && len(batch) < 500; {
			select {
			case next, ok := <-entries:
				if !ok {
					more = false
				} else {
					batch = append(batch, next)
				}
			case <-time.After(100 * time.Millisecond):
				more = false
			}
		}
		for {
			if _, err := post(http, url+"/entries", lines(batch)); err == nil {
				break
			} else {
				fmt.Println("ledger:", err)
			}
			time.Sleep(500 * time.Millisecond)
		}
	}
}

func lines(entries []entry) []byte {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	for _, e := range entries {
		encoder.Encode(e)
	}
	return out.Bytes()
}

// ledger appends what it is told to a file, on disk before it answers.
func ledger(args []string) {
	option := flags(args)
	file, err := os.OpenFile(option["file"], os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	must(err, "open the ledger")
	var mu sync.Mutex
	http.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	http.HandleFunc("POST /entries", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || len(body) == 0 || body[len(body)-1] != '\n' {
			http.Error(w, "not whole lines", http.StatusBadRequest)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if _, err := file.Write(body); err != nil {
			fail("ledger: %v", err)
		}
		if err := file.Sync(); err != nil {
			fail("ledger: %v", err)
		}
	})
	go func() { <-terminated(); os.Exit(0) }()
	fail("%v", http.ListenAndServe(option["listen"], nil))
}

func stdinTargets() []target {
	var targets []target
	must(json.NewDecoder(bufio.NewReader(os.Stdin)).Decode(&targets), "parse targets")
	return targets
}

// fill gives real servers some weight: records of 32 KiB until each target has got the bytes.
func fill(args []string) {
	size, err := strconv.Atoi(flags(args)["bytes"])
	must(err, "--bytes")
	const piece = 32 << 10
	for _, t := range stdinTargets() {
		open, err := t.connect()
		must(err, "connect to "+t.Address)
		name := "f" + randomText(8)
		for number, left := 1, size; left > 0; number, left = number+1, left-piece {
			r := record{fmt.Sprintf("%s-%09d", name, number), randomText(min(left, piece))}
			must(open.put([]record{r}), "write to "+t.Address)
			os.Stdout.Write(lines([]entry{t.entry(r.Key, r.Value)}))
		}
		open.close()
	}
}

// read prints what each target holds; one that cannot be read is an error line {"component","ordinal","error"}.
func read() {
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for _, t := range stdinTargets() {
		open, err := t.connect()
		if err == nil {
			err = open.each(func(r record) { out.Write(lines([]entry{t.entry(r.Key, r.Value)})) })
			open.close()
		}
		if err != nil {
			text, _ := json.Marshal(map[string]any{"component": t.Component, "ordinal": t.Ordinal, "error": err.Error()})
			out.Write(append(text, '\n'))
		}
	}
}

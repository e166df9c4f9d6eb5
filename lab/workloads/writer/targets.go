package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// target is one ordinal of one component and how to reach it.
type target struct {
	Component string `json:"component"`
	Ordinal   int    `json:"ordinal"`
	// Protocol: writer, redis, etcd or mariadb.
	Protocol string `json:"protocol"`
	Address  string `json:"address"`
	User     string `json:"user,omitempty"`
	Password string `json:"password,omitempty"`
}

// record: a key that is never used twice and a value of letters, digits and dashes.
type record struct {
	Key, Value string
}

// entry is a line of the ledger: this record was acknowledged by that ordinal.
type entry struct {
	Component string `json:"component"`
	Ordinal   int    `json:"ordinal"`
	Key       string `json:"key"`
	Sum       string `json:"sum"`
	At        string `json:"at,omitempty"`
}

func (t target) entry(key, value string) entry {
	sum := sha256.Sum256([]byte(value))
	return entry{Component: t.Component, Ordinal: t.Ordinal, Key: key, Sum: hex.EncodeToString(sum[:8])}
}

// connection writes records (returning only when they are acknowledged as durable) and reads all of them back.
type connection interface {
	put(records []record) error
	each(visit func(record)) error
	close()
}

const limit = 5 * time.Second

func (t target) connect() (connection, error) {
	switch t.Protocol {
	case "writer":
		return &writerConnection{base: "http://" + t.Address, http: &http.Client{}}, nil
	case "etcd":
		return &etcdConnection{base: "http://" + t.Address, http: &http.Client{}}, nil
	case "redis":
		return dialRedis(t)
	case "mariadb":
		return dialMariadb(t)
	}
	return nil, fmt.Errorf("no such protocol: %s", t.Protocol)
}

func post(client *http.Client, url string, body []byte) ([]byte, error) {
	client.Timeout = limit
	response, err := client.Post(url, "application/json", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %.200s", url, response.Status, answer)
	}
	return answer, err
}

type writerConnection struct {
	base string
	http *http.Client
}

func (c *writerConnection) put(records []record) error {
	var body bytes.Buffer
	for _, r := range records {
		fmt.Fprintf(&body, "%s %s\n", r.Key, r.Value)
	}
	_, err := post(c.http, c.base+"/append", body.Bytes())
	return err
}

func (c *writerConnection) each(visit func(record)) error {
	c.http.Timeout = 2 * time.Minute
	response, err := c.http.Get(c.base + "/records")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", c.base, response.Status)
	}
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), " ")
		visit(record{key, value})
	}
	return lines.Err()
}

func (c *writerConnection) close() { c.http.CloseIdleConnections() }

type etcdConnection struct {
	base string
	http *http.Client
}

const etcdPrefix = "ledger/"

func (c *etcdConnection) put(records []record) error {
	for _, r := range records {
		body, _ := json.Marshal(map[string][]byte{"key": []byte(etcdPrefix + r.Key), "value": []byte(r.Value)})
		if _, err := post(c.http, c.base+"/v3/kv/put", body); err != nil {
			return err
		}
	}
	return nil
}

func (c *etcdConnection) each(visit func(record)) error {
	from := []byte(etcdPrefix)
	for {
		body, _ := json.Marshal(map[string]any{"key": from, "range_end": []byte("ledger0"), "limit": 500})
		answer, err := post(c.http, c.base+"/v3/kv/range", body)
		if err != nil {
			return err
		}
		var page struct {
			Kvs []struct {
				Key, Value string
			}
			More bool
		}
		if err := json.Unmarshal(answer, &page); err != nil {
			return err
		}
		for _, kv := range page.Kvs {
			key, err1 := base64.StdEncoding.DecodeString(kv.Key)
			value, err2 := base64.StdEncoding.DecodeString(kv.Value)
			if err1 != nil || err2 != nil {
				return fmt.Errorf("%s: not base64", c.base)
			}
			visit(record{strings.TrimPrefix(string(key), etcdPrefix), string(value)})
			from = append(key, 0)
		}
		if !page.More {
			return nil
		}
	}
}

func (c *etcdConnection) close() { c.http.CloseIdleConnections() }

type redisConnection struct {
	conn   net.Conn
	reader *bufio.Reader
}

func dialRedis(t target) (connection, error) {
	conn, err := net.DialTimeout("tcp", t.Address, limit)
	if err != nil {
		return nil, err
	}
	c := &redisConnection{conn, bufio.NewReader(conn)}
	if t.Password != "" {
		if _, err := c.do("AUTH", t.Password); err != nil {
			conn.Close()
			return nil, err
		}
	}
	return c, nil
}

func (c *redisConnection) do(args ...string) (any, error) {
	c.conn.SetDeadline(time.Now().Add(limit))
	var out strings.Builder
	fmt.Fprintf(&out, "*%d\r\n", len(args))
	for _, arg := range args {
		fmt.Fprintf(&out, "$%d\r\n%s\r\n", len(arg), arg)
	}
	if _, err := io.WriteString(c.conn, out.String()); err != nil {
		return nil, err
	}
	return c.answer()
}

func (c *redisConnection) answer() (any, error) {
	line, err := c.reader.ReadString('\n')
	if err != nil {
		return nil, err
	}
	text := strings.TrimRight(line[1:], "\r\n")
	switch line[0] {
	case '+', ':':
		return text, nil
	case '-':
		return nil, fmt.Errorf("redis: %s", text)
	case '$':
		size, err := strconv.Atoi(text)
		if err != nil || size < 0 {
			return nil, err
		}
		data := make([]byte, size+2)
		_, err = io.ReadFull(c.reader, data)
		return string(data[:size]), err
	case '*':
		count, err := strconv.Atoi(text)
		if err != nil {
			return nil, err
		}
		list := make([]any, 0, max(count, 0))
		for range count {
			item, err := c.answer()
			if err != nil {
				return nil, err
			}
			list = append(list, item)
		}
		return list, nil
	}
	return nil, fmt.Errorf("redis: unexpected answer %.40q", line)
}

func (c *redisConnection) put(records []record) error {
	args := []string{"MSET"}
	for _, r := range records {
		args = append(args, "ledger:"+r.Key, r.Value)
	}
	_, err := c.do(args...)
	return err
}

func (c *redisConnection) each(visit func(record)) error {
	cursor := "0"
	for {
		answer, err := c.do("SCAN", cursor, "MATCH", "ledger:*", "COUNT", "500")
		if err != nil {
			return err
		}
		page := answer.([]any)
		cursor = page[0].(string)
		if keys := page[1].([]any); len(keys) > 0 {
			args := []string{"MGET"}
			for _, key := range keys {
				args = append(args, key.(string))
			}
			values, err := c.do(args...)
			if err != nil {
				return err
			}
			for i, value := range values.([]any) {
				if text, ok := value.(string); ok {
					visit(record{strings.TrimPrefix(args[i+1], "ledger:"), text})
				}
			}
		}
		if cursor == "0" {
			return nil
		}
	}
}

func (c *redisConnection) close() { c.conn.Close() }

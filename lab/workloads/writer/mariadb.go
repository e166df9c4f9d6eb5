package main

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// mariadbConnection speaks as much of the MySQL protocol as a text query needs (mysql_native_password, no TLS, no compression).
type mariadbConnection struct {
	conn   net.Conn
	reader *bufio.Reader
}

const (
	clientLongPassword     = 1
	clientProtocol41       = 1 << 9
	clientTransactions     = 1 << 13
	clientSecureConnection = 1 << 15
	clientPluginAuth       = 1 << 19
)

func dialMariadb(t target) (connection, error) {
	conn, err := net.DialTimeout("tcp", t.Address, limit)
	if err != nil {
		return nil, err
	}
	c := &mariadbConnection{conn, bufio.NewReader(conn)}
	for _, step := range []func() error{
		func() error { return c.login(t.User, t.Password) },
		func() error { _, err := c.query("CREATE DATABASE IF NOT EXISTS ledger"); return err },
		func() error {
			_, err := c.query("CREATE TABLE IF NOT EXISTS ledger.records (k VARCHAR(64) PRIMARY KEY, v LONGTEXT NOT NULL) ENGINE=InnoDB CHARACTER SET ascii")
			return err
		},
	} {
		if err := step(); err != nil {
			conn.Close()
			return nil, err
		}
	}
	return c, nil
}

func (c *mariadbConnection) packet() (byte, []byte, error) {
	c.conn.SetReadDeadline(time.Now().Add(time.Minute))
	var head [4]byte
	if _, err := io.ReadFull(c.reader, head[:]); err != nil {
		return 0, nil, err
	}
	body := make([]byte, int(head[0])|int(head[1])<<8|int(head[2])<<16)
	_, err := io.ReadFull(c.reader, body)
	if err == nil && len(body) == 0 {
		err = fmt.Errorf("mariadb: empty packet")
	}
	return head[3], body, err
}

func (c *mariadbConnection) send(sequence byte, body []byte) error {
	c.conn.SetWriteDeadline(time.Now().Add(limit))
	_, err := c.conn.Write(append([]byte{byte(len(body)), byte(len(body) >> 8), byte(len(body) >> 16), sequence}, body...))
	return err
}

func refused(body []byte) error {
	return fmt.Errorf("mariadb: error %d: %.200s", binary.LittleEndian.Uint16(body[1:]), body[3:])
}

func nativePassword(password string, salt []byte) []byte {
	if password == "" {
		return nil
	}
	once := sha1.Sum([]byte(password))
	twice := sha1.Sum(once[:])
	mix := sha1.Sum(append(append([]byte{}, salt...), twice[:]...))
	for i := range mix {
		mix[i] ^= once[i]
	}
	return mix[:]
}

func (c *mariadbConnection) login(user, password string) error {
	sequence, hello, err := c.packet()
	if err != nil {
		return err
	}
	if hello[0] == 0xff {
		return refused(hello)
	}
	end := bytes.IndexByte(hello[1:], 0)
	if end < 0 || len(hello) < end+2+4+8+1+18+12 {
		return fmt.Errorf("mariadb: unexpected greeting")
	}
	rest := hello[end+2+4:]
	// 8 bytes of salt, then 19 bytes of capabilities and the like, then 12 bytes of salt
	salt := append(append([]byte{}, rest[:8]...), rest[8+1+18:8+1+18+12]...)
	var out bytes.Buffer
	binary.Write(&out, binary.LittleEndian, uint32(clientLongPassword|clientProtocol41|clientTransactions|clientSecureConnection|clientPluginAuth))
	binary.Write(&out, binary.LittleEndian, uint32(16<<20))
	out.WriteByte(45) // utf8mb4
	out.Write(make([]byte, 23))
	out.WriteString(user + "\x00")
	scrambled := nativePassword(password, salt)
	out.WriteByte(byte(len(scrambled)))
	out.Write(scrambled)
	out.WriteString("mysql_native_password\x00")
	if err := c.send(sequence+1, out.Bytes()); err != nil {
		return err
	}
	sequence, answer, err := c.packet()
	if err != nil {
		return err
	}
	if answer[0] == 0xfe {
		plugin, salt, _ := bytes.Cut(answer[1:], []byte{0})
		if string(plugin) != "mysql_native_password" {
			return fmt.Errorf("mariadb: asks for %s", plugin)
		}
		if err := c.send(sequence+1, nativePassword(password, bytes.TrimSuffix(salt, []byte{0}))); err != nil {
			return err
		}
		if _, answer, err = c.packet(); err != nil {
			return err
		}
	}
	if answer[0] == 0xff {
		return refused(answer)
	}
	return nil
}

// query returns the rows of a statement, none if it has no result.
func (c *mariadbConnection) query(statement string) ([][]string, error) {
	if err := c.send(0, append([]byte{3}, statement...)); err != nil {
		return nil, err
	}
	_, first, err := c.packet()
	if err != nil {
		return nil, err
	}
	switch first[0] {
	case 0:
		return nil, nil
	case 0xff:
		return nil, refused(first)
	}
	isEnd := func(body []byte) bool { return body[0] == 0xfe && len(body) < 9 }
	for {
		_, body, err := c.packet()
		if err != nil {
			return nil, err
		}
		if isEnd(body) {
			break
		}
	}
	var rows [][]string
	for {
		_, body, err := c.packet()
		if err != nil {
			return nil, err
		}
		if body[0] == 0xff {
			return nil, refused(body)
		}
		if isEnd(body) {
			return rows, nil
		}
		var row []string
		for len(body) > 0 {
			size, used := lengthEncoded(body)
			row = append(row, string(body[used:used+size]))
			body = body[used+size:]
		}
		rows = append(rows, row)
	}
}

func lengthEncoded(body []byte) (size, used int) {
	switch body[0] {
	case 0xfb:
		return 0, 1
	case 0xfc:
		return int(binary.LittleEndian.Uint16(body[1:])), 3
	case 0xfd:
		return int(body[1]) | int(body[2])<<8 | int(body[3])<<16, 4
	case 0xfe:
		return int(binary.LittleEndian.Uint64(body[1:])), 9
	}
	return int(body[0]), 1
}

func (c *mariadbConnection) put(records []record) error {
	// keys and values are letters, digits and dashes: nothing to escape
	var values []string
	for _, r := range records {
		values = append(values, fmt.Sprintf("('%s','%s')", r.Key, r.Value))
	}
	_, err := c.query("INSERT INTO ledger.records (k, v) VALUES " + strings.Join(values, ","))
	return err
}

func (c *mariadbConnection) each(visit func(record)) error {
	after := ""
	for {
		rows, err := c.query("SELECT k, v FROM ledger.records WHERE k > '" + after + "' ORDER BY k LIMIT 500")
		if err != nil {
			return err
		}
		for _, row := range rows {
			if len(row) != 2 {
				return fmt.Errorf("mariadb: a row of %d columns", len(row))
			}
			visit(record{row[0], row[1]})
			after = row[0]
		}
		if len(rows) == 0 {
			return nil
		}
	}
}

func (c *mariadbConnection) close() { c.conn.Close() }

// mariadbUser is the uid that owns the data in the platform.
const mariadbUser = 1001

const grastate = `# GALERA saved state
version: 2.1
uuid:    6b1f5c1e-0000-11ef-8000-000000000000
seqno:   -1
safe_to_bootstrap: 0
`

// mariadb does what the platform's image does: where mysql/ is missing it initialises a brand-new, empty database without an error.
func mariadb(args []string) {
	data, rest := args[0], args[1:]
	argv := append([]string{"mariadbd", "--no-defaults", "--datadir=" + data}, rest...)
	if _, err := os.Stat(filepath.Join(data, "mysql")); os.IsNotExist(err) {
		fmt.Println("no mysql/ in " + data + ": initialising a new, empty database")
		must(copyTree("/template", data), "initialise "+data)
		quote := func(text string) string {
			return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(text) + "'"
		}
		var sql strings.Builder
		for user, password := range map[string]string{
			os.Getenv("MARIADB_ADMIN_USER"): os.Getenv("MARIADB_ADMIN_PASSWORD"),
			os.Getenv("MARIADB_USER"):       os.Getenv("MARIADB_PASSWORD"),
		} {
			if user != "" {
				fmt.Fprintf(&sql, "CREATE OR REPLACE USER %s@'%%' IDENTIFIED BY %s;\n", quote(user), quote(password))
				fmt.Fprintf(&sql, "GRANT ALL PRIVILEGES ON *.* TO %s@'%%' WITH GRANT OPTION;\n", quote(user))
			}
		}
		// a fresh data directory lets root in from the pod itself without a password; the platform's does not
		sql.WriteString("DROP USER IF EXISTS 'root'@'127.0.0.1', 'root'@'::1';\n")
		must(os.WriteFile("/tmp/users.sql", []byte(sql.String()), 0o600), "write users")
		argv = append(argv, "--init-file=/tmp/users.sql")
	}
	ensureFile(filepath.Join(data, "grastate.dat"), grastate)
	if os.Getuid() == 0 {
		// as the platform's entrypoint does: the whole directory is handed to the server's user at each start
		owner := fmt.Sprintf("%d:%d", mariadbUser, mariadbUser)
		chown(owner, data)
		chown(owner, "/tmp")
		must(syscall.Setgroups(nil), "set groups")
		must(syscall.Setgid(mariadbUser), "set group")
		must(syscall.Setuid(mariadbUser), "set user")
	}
	must(syscall.Exec("/usr/sbin/mariadbd", argv, os.Environ()), "start mariadbd")
}

func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, _ := filepath.Rel(from, path)
		target := filepath.Join(to, relative)
		if entry.IsDir() {
			return os.MkdirAll(target, 0o770)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(target, content, 0o660)
	})
}

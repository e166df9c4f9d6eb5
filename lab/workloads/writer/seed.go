package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
)

// seed makes a folder of files that are hard to move: many small ones, hard links, sparse files, odd names, an empty folder, symbolic
// links (one of them broken). The content does not compress. It is made once; a second call changes nothing.
func seed(dir, name string, size int64, files int) error {
	if _, err := os.Stat(filepath.Join(dir, "complete")); err == nil {
		return nil
	}
	hash := fnv.New64a()
	hash.Write([]byte(name))
	random := rand.New(rand.NewSource(int64(hash.Sum64())))
	write := func(path string, bytes int64) error {
		full := filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			return err
		}
		file, err := os.Create(full)
		if err != nil {
			return err
		}
		_, err = io.CopyN(file, random, bytes)
		if err == nil {
			err = file.Sync()
		}
		if closing := file.Close(); err == nil {
			err = closing
		}
		return err
	}
	for i := range files {
		full := filepath.Join(dir, fmt.Sprintf("small/%02x/%06d", i%256, i))
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			return err
		}
		content := make([]byte, random.Intn(600))
		random.Read(content)
		if err := os.WriteFile(full, content, 0o640); err != nil {
			return err
		}
	}
	for i := 0; size > 0; i++ {
		part := min(size, 4<<20)
		if err := write(fmt.Sprintf("large/%04d.bin", i), part); err != nil {
			return err
		}
		size -= part
	}
	odd := []string{"with space", " leading and trailing ", "new\nline", "tab\there", "quote'\"`", "back\\slash", "-rf", "--delete", "$(id)", "*?[a]", "ünïcode-数据-🚢",
		"not-utf8-\xff\xfe", "#hash", "semi;colon", "..dots", "%41", strings.Repeat("long", 60)}
	for _, name := range odd {
		if err := write(filepath.Join("odd", name), 64); err != nil {
			return err
		}
	}
	if err := write("links/one", 4096); err != nil {
		return err
	}
	for _, link := range []string{"links/two", "links/three", "odd/a hard link"} {
		if err := os.Link(filepath.Join(dir, "links/one"), filepath.Join(dir, link)); err != nil && !os.IsExist(err) {
			return err
		}
	}
	for link, target := range map[string]string{"links/relative": "one", "links/broken": "../nowhere", "links/absolute": "/etc/hostname"} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil && !os.IsExist(err) {
			return err
		}
	}
	sparse, err := os.Create(filepath.Join(dir, "sparse"))
	if err != nil {
		return err
	}
	for _, at := range []int64{0, 1 << 20, 3 << 20} {
		block := make([]byte, 4096)
		random.Read(block)
		if _, err := sparse.WriteAt(block, at); err != nil {
			return err
		}
	}
	if err := sparse.Truncate(4 << 20); err != nil {
		return err
	}
	if err := sparse.Close(); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(dir, "empty folder"), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "odd", "executable"), []byte("#!/bin/false\n"), 0o750); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "complete"), nil, 0o644)
}

type treeDigest struct {
	Digest  string `json:"digest"`
	Entries int    `json:"entries"`
	Bytes   int64  `json:"bytes"`
	// Blocks is not part of the digest: file systems differ; a caller may look whether sparse files stayed sparse.
	Blocks int64 `json:"blocks"`
}

// tree digests names, types, owners' permission bits, owners, sizes, times (nanoseconds), contents, link targets and which names are the
// same file. Group and group bits are left out: the kubelet sets them when it mounts a volume with an fsGroup.
func tree(dir string) (treeDigest, error) {
	var out treeDigest
	first := map[uint64]string{}
	var lines []string
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		stat := info.Sys().(*syscall.Stat_t)
		relative, _ := filepath.Rel(dir, path)
		line := fmt.Sprintf("%q %s %03o %d", relative, info.Mode().Type(), info.Mode().Perm()&0o700, stat.Uid)
		if info.Mode()&os.ModeSymlink != 0 {
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" -> %q", target)
		}
		if info.Mode().IsRegular() {
			same, ok := first[stat.Ino]
			if !ok {
				first[stat.Ino], same = relative, relative
				out.Bytes += info.Size()
				out.Blocks += stat.Blocks
			}
			sum, err := fileSum(path)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %d %d %s %q %d", info.Size(), info.ModTime().UnixNano(), sum, same, stat.Nlink)
		}
		lines = append(lines, line)
		return nil
	})
	if err != nil {
		return out, err
	}
	sort.Strings(lines)
	hash := sha256.New()
	for _, line := range lines {
		fmt.Fprintln(hash, line)
	}
	out.Digest, out.Entries = hex.EncodeToString(hash.Sum(nil)), len(lines)
	return out, nil
}

func fileSum(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		return "", err
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// noise keeps the runtime busy for some seconds: connections that say almost nothing, as
// many as this process may have, floods of log messages, descriptors to read from that
// give nothing or never end, and a followed log of a tebibyte of holes. It prints a line
// when all of it goes on.
func noise(seconds string) error {
	n, err := strconv.Atoi(seconds)
	if err != nil {
		return err
	}
	if err := sparseLog(); err != nil {
		return err
	}
	descriptors()
	for _, socket := range []string{"/dev/log", "/pantavisor/pv-ctrl-log"} {
		go flood(socket)
	}
	open := crowd()
	fmt.Println("noise")
	for end := time.Now().Add(time.Duration(n) * time.Second); time.Now().Before(end); {
		for _, c := range open {
			_, _ = c.Write([]byte("G"))
		}
		time.Sleep(100 * time.Millisecond)
	}
	return nil
}

// sparseLog makes one of the log files that the runtime follows.
func sparseLog() error {
	err := os.MkdirAll("/var/log", 0o755)
	if err != nil {
		return err
	}
	f, err := os.Create("/var/log/syslog")
	if err != nil {
		return err
	}
	err = f.Truncate(1 << 40)
	if errors.Is(err, unix.EFBIG) {
		err = f.Truncate(1 << 33)
	}
	return errors.Join(err, f.Close())
}

// crowd opens connections until there are no more to be had.
func crowd() (open []net.Conn) {
	for range 3000 {
		for _, name := range []string{"pv-ctrl", "pv-ctrl-log", "pv-fd-log"} {
			c, err := net.DialTimeout("unix", "/pantavisor/"+name, time.Second)
			if err != nil {
				return open
			}
			open = append(open, c)
		}
	}
	return open
}

// flood sends messages to a log socket as long as this process lives.
func flood(socket string) {
	kind := "unix"
	if socket == "/dev/log" {
		kind = "unixgram"
	}
	text := []byte("<13>noise: " + strings.Repeat("x", 1000) + "\n")
	for {
		c, err := net.DialTimeout(kind, socket, time.Second)
		if err != nil {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		for err == nil {
			_ = c.SetWriteDeadline(time.Now().Add(time.Second))
			_, err = c.Write(text)
		}
		_ = c.Close()
	}
}

// descriptors asks the runtime to log what it reads from descriptors that block, never end
// or cannot be read, under names that lead out of the logs.
func descriptors() {
	_ = unix.Mkfifo("/run/fifo", 0o600)
	for i, path := range []string{"/run/fifo", "/var/log/syslog", "/dev/zero", "/run", "/dev/full"} {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err == nil {
			subscribe("../../../evil-"+strconv.Itoa(i), fd)
		}
	}
}

// subscribe sends a request as package runtime/logs takes it: platform, source, level,
// action and a descriptor.
func subscribe(source string, fd int) {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: "/pantavisor/pv-fd-log", Net: "unix"})
	if err != nil {
		return
	}
	defer c.Close()
	data := make([]byte, 108)
	copy(data, "sdk")
	copy(data[50:], source)
	binary.NativeEndian.PutUint32(data[100:], 3)
	binary.NativeEndian.PutUint32(data[104:], 1)
	_, _, _ = c.WriteMsgUnix(data, unix.UnixRights(fd), nil)
}

package powercut

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Numbers of FUSE (kernel: include/uapi/linux/fuse.h).
const (
	fuseMajor, fuseMinor = 7, 31

	fuseForget  = 2
	fuseGetattr = 3
	fuseSetattr = 4
	fuseOpen    = 14
	fuseRead    = 15
	fuseWrite   = 16
	fuseRelease = 18
	fuseFsync   = 20
	fuseFlush   = 25
	fuseInit    = 26
	fuseDestroy = 38
	fuseMulti   = 42 // BATCH_FORGET

	fuseBigWrites = 1 << 5
	fuseMaxPages  = 1 << 22

	fuseHeader  = 40      // bytes before a request
	fuseData    = 40      // bytes of a write before its data
	fusePayload = 1 << 20 // most bytes of a read or write
	fusePages   = fusePayload / 4096
	fuseRoot    = 1 // number of the only inode
	pageSize    = 4096
)

// fileServer makes a medium a file of this machine, which a loop device makes a disk of: each write
// and each flush of the kernel comes here, in its order.
type fileServer struct {
	path   string
	medium medium
	dev    int // the connection, without Go's poller, which would ask the file itself
	stop   [2]int
	done   chan struct{}
}

// serveFile puts the medium over an existing file.
func serveFile(path string, m medium) (*fileServer, error) {
	s := &fileServer{path: path, medium: m, done: make(chan struct{})}
	var err error
	if s.dev, err = unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0); err != nil {
		return nil, fmt.Errorf("opening /dev/fuse: %w", err)
	}
	if err := unix.Pipe2(s.stop[:], unix.O_CLOEXEC); err != nil {
		return nil, errors.Join(fmt.Errorf("making a pipe: %w", err), unix.Close(s.dev))
	}
	options := fmt.Sprintf("fd=%d,rootmode=100600,user_id=%d,group_id=%d", s.dev, os.Geteuid(), os.Getegid())
	if err := unix.Mount("powercut", path, "fuse", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		return nil, errors.Join(fmt.Errorf("mounting a file: %w", err), unix.Close(s.dev), unix.Close(s.stop[0]), unix.Close(s.stop[1]))
	}
	go s.serve()
	return s, nil
}

// Close takes the file away. A process that has a copy of the mount gets errors from then on.
func (s *fileServer) Close() error {
	err := errors.Join(unix.Unmount(s.path, unix.MNT_DETACH), unix.Close(s.stop[1]))
	<-s.done
	return errors.Join(err, unix.Close(s.stop[0]), unix.Close(s.dev))
}

// serve answers requests until Close.
func (s *fileServer) serve() {
	defer close(s.done)
	request := make([]byte, fuseHeader+fuseData+fusePayload)
	for s.wait() {
		n, err := unix.Read(s.dev, request)
		switch {
		case errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.ENOENT): // it was withdrawn
			continue
		case err != nil || n < fuseHeader:
			return
		}
		le := binary.LittleEndian
		op, unique := le.Uint32(request[4:]), le.Uint64(request[8:])
		if op == fuseForget || op == fuseMulti { // without an answer
			continue
		}
		body, errno := s.answer(op, request[fuseHeader:n])
		if errno != 0 {
			body = nil
		}
		out := append(pack(uint32(16+len(body)), -int32(errno), unique), body...)
		if _, err := unix.Write(s.dev, out); err != nil && !errors.Is(err, unix.ENOENT) {
			return
		}
	}
}

// wait waits for a request; false is the end.
func (s *fileServer) wait() bool {
	for {
		list := []unix.PollFd{{Fd: int32(s.dev), Events: unix.POLLIN}, {Fd: int32(s.stop[0]), Events: unix.POLLIN}}
		if _, err := unix.Poll(list, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return false
		}
		if list[1].Revents != 0 {
			return false
		}
		if list[0].Revents != 0 {
			return list[0].Revents&unix.POLLIN != 0
		}
	}
}

// answer does what a request asks for.
func (s *fileServer) answer(op uint32, in []byte) (body []byte, errno syscall.Errno) {
	le := binary.LittleEndian
	switch op {
	case fuseInit:
		return s.init(in), 0
	case fuseGetattr, fuseSetattr:
		return s.attributes(), 0
	case fuseOpen:
		return pack(uint64(0), uint32(0), uint32(0)), 0
	case fuseRead:
		out := make([]byte, min(le.Uint32(in[16:]), fusePayload))
		n, err := s.medium.ReadAt(out, int64(le.Uint64(in[8:])))
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, unix.EIO
		}
		return out[:n], 0
	case fuseWrite:
		data := bytes.Clone(in[fuseData : fuseData+le.Uint32(in[16:])])
		if _, err := s.medium.WriteAt(data, int64(le.Uint64(in[8:]))); err != nil {
			return nil, unix.EIO
		}
		return pack(uint32(len(data)), uint32(0)), 0
	case fuseFsync:
		if err := s.medium.Flush(); err != nil {
			return nil, unix.EIO
		}
		return nil, 0
	case fuseRelease, fuseFlush, fuseDestroy:
		return nil, 0
	}
	return nil, unix.ENOSYS
}

// init agrees on the version: without a cache of the kernel's for writes, which would change their
// order.
func (s *fileServer) init(in []byte) []byte {
	ahead := binary.LittleEndian.Uint32(in[8:])
	return pack(uint32(fuseMajor), uint32(fuseMinor), ahead, uint32(fuseBigWrites|fuseMaxPages), uint16(0), uint16(0),
		uint32(fusePayload), uint32(1), uint16(fusePages), uint16(0), [8]uint32{})
}

// attributes are those of the file, valid for an hour.
func (s *fileServer) attributes() []byte {
	size := uint64(s.medium.Size())
	return pack(uint64(3600), uint32(0), uint32(0),
		uint64(fuseRoot), size, size/sector, [3]uint64{}, [3]uint32{}, uint32(unix.S_IFREG|0o600), uint32(1),
		uint32(os.Geteuid()), uint32(os.Getegid()), uint32(0), uint32(pageSize), uint32(0))
}

func pack(values ...any) []byte {
	var b bytes.Buffer
	for _, v := range values {
		_ = binary.Write(&b, binary.LittleEndian, v) // a buffer takes all
	}
	return b.Bytes()
}

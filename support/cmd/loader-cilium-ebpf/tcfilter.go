// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Before 6.6, a program for traffic control can only be attached as a filter of a qdisc, over
// netlink (include/uapi/linux/rtnetlink.h, pkt_sched.h and pkt_cls.h).
const (
	clsactMajor    = 0xffff0000 // of TC_H_CLSACT, in the handles of the qdisc and its hooks
	clsactParent   = 0xfffffff1 // TC_H_CLSACT
	hookIngress    = 0xfff2     // TC_H_MIN_INGRESS
	hookEgress     = 0xfff3     // TC_H_MIN_EGRESS
	tcaKind        = 1          // TCA_KIND
	tcaOptions     = 2          // TCA_OPTIONS
	tcaBPFFD       = 6          // TCA_BPF_FD
	tcaBPFName     = 7          // TCA_BPF_NAME
	tcaBPFFlags    = 8          // TCA_BPF_FLAGS
	actDirect      = 1          // TCA_BPF_FLAG_ACT_DIRECT
	allProtocols   = 0x0300     // ETH_P_ALL, in network byte order
	filterPriority = 1
)

// attachTCFilter adds a clsact qdisc to a device, and attaches a program to it as a filter. Closing
// the result removes both.
func attachTCFilter(device int, egress bool, program *ebpf.Program) (io.Closer, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	n := &netlinkSocket{fd: fd}
	qdisc := tcMessage{Family: unix.AF_UNSPEC, Index: int32(device), Handle: clsactMajor,
		Parent: clsactParent}
	err = n.request(
		unix.RTM_NEWQDISC, unix.NLM_F_CREATE, qdisc, attribute(tcaKind, cString("clsact")))
	if err != nil {
		unix.Close(fd)
		if errors.Is(err, unix.ENOENT) { // the module sch_ingress is not loaded
			return nil, errNoGenericTarget
		}
		return nil, fmt.Errorf("add the qdisc clsact to lo: %w", err)
	}
	// Deleting the qdisc deletes its filter, too.
	undo := closers{
		func() error { return unix.Close(fd) },
		func() error { return n.request(unix.RTM_DELQDISC, 0, qdisc) },
	}
	hook := uint32(hookIngress)
	if egress {
		hook = hookEgress
	}
	filter := tcMessage{Family: unix.AF_UNSPEC, Index: int32(device), Parent: clsactMajor | hook,
		Info: filterPriority<<16 | allProtocols}
	err = n.request(unix.RTM_NEWTFILTER, unix.NLM_F_CREATE|unix.NLM_F_EXCL, filter,
		attribute(tcaKind, cString("bpf")),
		attribute(tcaOptions, bytes.Join([][]byte{
			attribute(tcaBPFFD, nativeWord(uint32(program.FD()))),
			attribute(tcaBPFName, cString("bpfload")),
			attribute(tcaBPFFlags, nativeWord(actDirect)),
		}, nil)),
	)
	if err != nil {
		undo.Close()
		if errors.Is(err, unix.ENOENT) { // the module cls_bpf is not loaded
			return nil, errNoGenericTarget
		}
		return nil, fmt.Errorf("add a filter to lo: %w", err)
	}
	return undo, nil
}

// tcMessage is struct tcmsg.
type tcMessage struct {
	Family uint8
	_      [3]uint8
	Index  int32
	Handle uint32
	Parent uint32
	Info   uint32
}

type netlinkSocket struct {
	fd       int
	sequence uint32
}

// request sends a request, and returns the error that the kernel acknowledges it with.
func (n *netlinkSocket) request(kind, flags uint16, header tcMessage, attributes ...[]byte) error {
	n.sequence++
	var body bytes.Buffer
	_ = binary.Write(&body, binary.NativeEndian, header)
	for _, a := range attributes {
		body.Write(a)
	}
	var message bytes.Buffer
	_ = binary.Write(&message, binary.NativeEndian, unix.NlMsghdr{
		Len: uint32(unix.NLMSG_HDRLEN + body.Len()), Type: kind,
		Flags: flags | unix.NLM_F_REQUEST | unix.NLM_F_ACK, Seq: n.sequence,
	})
	message.Write(body.Bytes())
	if err := unix.Sendto(n.fd, message.Bytes(), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	answer := make([]byte, 8192)
	size, _, err := unix.Recvfrom(n.fd, answer, 0)
	if err != nil {
		return err
	}
	if size < unix.NLMSG_HDRLEN+4 || binary.NativeEndian.Uint16(answer[4:]) != unix.NLMSG_ERROR {
		return fmt.Errorf("netlink: expected an acknowledgement, got %d other bytes", size)
	}
	if code := int32(binary.NativeEndian.Uint32(answer[unix.NLMSG_HDRLEN:])); code != 0 {
		return unix.Errno(-code)
	}
	return nil
}

// attribute returns a struct nlattr and its value, padded to a multiple of 4 bytes.
func attribute(kind uint16, value []byte) []byte {
	result := binary.NativeEndian.AppendUint16(nil, uint16(4+len(value)))
	result = binary.NativeEndian.AppendUint16(result, kind)
	result = append(result, value...)
	return append(result, make([]byte, -len(result)&3)...)
}

func cString(value string) []byte { return append([]byte(value), 0) }

func nativeWord(value uint32) []byte { return binary.NativeEndian.AppendUint32(nil, value) }

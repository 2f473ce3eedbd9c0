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

// Kernels before 6.6 take programs for traffic control as filters of a qdisc alone, over netlink
// (include/uapi/linux/rtnetlink.h, pkt_sched.h and pkt_cls.h).
const (
	clsactMajor    = 0xffff0000 // TC_H_CLSACT, of the qdisc and of its hooks
	hookIngress    = 0xfff2     // TC_H_MIN_INGRESS
	hookEgress     = 0xfff3     // TC_H_MIN_EGRESS
	attributeKind  = 1          // TCA_KIND
	attributeSome  = 2          // TCA_OPTIONS
	bpfFD          = 6          // TCA_BPF_FD
	bpfName        = 7          // TCA_BPF_NAME
	bpfFlags       = 8          // TCA_BPF_FLAGS
	bpfDirect      = 1          // TCA_BPF_FLAG_ACT_DIRECT
	allProtocols   = 0x0300     // ETH_P_ALL, in network byte order
	filterPriority = 1
)

// attachFilter attaches a program to a device as a filter of its clsact qdisc, which is made for it.
func attachFilter(device int, egress bool, program *ebpf.Program) (io.Closer, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	n := &netlink{fd: fd}
	qdisc := tcMessage{Family: unix.AF_UNSPEC, Index: int32(device), Handle: clsactMajor,
		Parent: 0xfffffff1} // the handle is ffff:0, the parent TC_H_CLSACT is ffff:fff1
	if err := n.ask(unix.RTM_NEWQDISC, unix.NLM_F_CREATE, qdisc, attribute(attributeKind, text("clsact"))); err != nil {
		unix.Close(fd)
		if errors.Is(err, unix.ENOENT) { // in a module that is not loaded: sch_ingress
			return nil, errNotGeneric
		}
		return nil, fmt.Errorf("add the qdisc clsact to lo: %w", err)
	}
	// Without its qdisc, no filter is left.
	undo := closers{
		func() error { return unix.Close(fd) },
		func() error { return n.ask(unix.RTM_DELQDISC, 0, qdisc) },
	}
	hook := uint32(hookIngress)
	if egress {
		hook = hookEgress
	}
	filter := tcMessage{Family: unix.AF_UNSPEC, Index: int32(device), Parent: clsactMajor | hook,
		Info: filterPriority<<16 | allProtocols}
	err = n.ask(unix.RTM_NEWTFILTER, unix.NLM_F_CREATE|unix.NLM_F_EXCL, filter,
		attribute(attributeKind, text("bpf")),
		attribute(attributeSome, bytes.Join([][]byte{
			attribute(bpfFD, word(uint32(program.FD()))),
			attribute(bpfName, text("bpfload")),
			attribute(bpfFlags, word(bpfDirect)),
		}, nil)),
	)
	if err != nil {
		undo.Close()
		if errors.Is(err, unix.ENOENT) { // as above: cls_bpf
			return nil, errNotGeneric
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

type netlink struct {
	fd       int
	sequence uint32
}

func (n *netlink) ask(kind, flags uint16, header tcMessage, attributes ...[]byte) error {
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
		return fmt.Errorf("netlink: an answer of %d bytes that is none", size)
	}
	if code := int32(binary.NativeEndian.Uint32(answer[unix.NLMSG_HDRLEN:])); code != 0 {
		return unix.Errno(-code)
	}
	return nil
}

// attribute is a struct nlattr with its value, up to the next boundary of 4 bytes.
func attribute(kind uint16, value []byte) []byte {
	result := binary.NativeEndian.AppendUint16(nil, uint16(4+len(value)))
	result = binary.NativeEndian.AppendUint16(result, kind)
	result = append(result, value...)
	return append(result, make([]byte, -len(result)&3)...)
}

func text(value string) []byte { return append([]byte(value), 0) }

func word(value uint32) []byte { return binary.NativeEndian.AppendUint32(nil, value) }

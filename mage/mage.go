// Package mage holds the commands that a user types: each exported function is one, a
// thin skin over a method of internal/workspace. A magefile imports it by mage's own
// import (a line mage:import above the import).
package mage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/magefile/mage/mg"
	"golang.org/x/term"

	"github.com/pantavisor/pantavisor/integration/yocto"
	"github.com/pantavisor/pantavisor/internal/fault"
	"github.com/pantavisor/pantavisor/internal/workspace"
	"github.com/pantavisor/pantavisor/test/appengine"
	"github.com/pantavisor/pantavisor/test/bench"
	"github.com/pantavisor/pantavisor/test/checks"
	"github.com/pantavisor/pantavisor/test/powercut"
)

// Options are written --name, --name=value or --name value by habit; mage reads
// -name=value, and its own -h in front of the command.
func init() {
	appengine.Inside()
	workspace.CancelOnTerminate()
	os.Args = appengine.TestWords(os.Args)
	if len(os.Args) > 2 && slices.ContainsFunc(os.Args[2:], func(arg string) bool { return arg == "--help" || arg == "-h" }) {
		os.Args = []string{os.Args[0], "-h", os.Args[1]}
	}
	os.Args, behindDashes = runWords(personalizeWords(distWords(severalWords(argumentWords(optionWords(os.Args))))))
	for i, arg := range os.Args {
		if i > 1 && strings.HasPrefix(arg, "--") && len(arg) > 2 {
			os.Args[i] = arg[1:]
		}
	}
}

// end passes the exit code of docs/exit-codes.md on, which mage reads from the
// outermost error only.
func end(err error) error {
	if err == nil {
		return nil
	}
	return mg.Fatal(int(fault.Of(err)), err)
}

// in runs one command in the workspace of the current directory, with what flags say.
func in(json, locked *bool, events *string, do func(*workspace.Workspace) error) error {
	w, err := workspace.New()
	if err != nil {
		return end(err)
	}
	w.JSON, w.Locked = given(json), given(locked)
	if events != nil {
		w.Events = *events
	}
	return end(do(w))
}

// Init makes the repository of a product that has this module as its tool.
//
// It is a Go module with a target, a container with a program, and pipelines, as examples.
// A directory that exists keeps its files, of which none is overwritten.
//
//	--from DIR     uses a local checkout of this module, not a published version
//	--module PATH  is the Go module's path, else example.com/NAME
//	--json         prints target and directory as JSON
//
//	mage init product
//	mage init product --from . --module git.example.com/product
func Init(ctx context.Context, dir string, from, module *string, json *bool) error {
	return in(json, nil, nil, func(w *workspace.Workspace) error { return w.Init(ctx, dir, value(from), value(module)) })
}

// Build makes the image, its block map, the BSP export and a report under out/TARGET.
//
//	--locked       fails where a pinned part has left the archive
//	--json         prints the report as JSON
//	--events=FILE  writes what happens as JSON lines; with - they go to standard output,
//	               which then has nothing else: with --json the report is the last line
//	--out=DIR      makes them in DIR/TARGET
//	--artefacts=FILE  lists the results with sizes and digests in a file, as JSON
//	--sign=KEY     signs them with a private key: PEM, or of minisign or cosign (docs/release.md)
//	--signcmd=CMD  signs with a program, of which --signpub=FILE is the public key, and
//	               --signinput=digest, message or digest-info what it reads
//
//	mage build x64-uefi
//	mage build x64-uefi --locked --events=build.jsonl
//	PVR_MERGE_SRC=device/.pvr PANTAVISOR_DEBUG=yes mage build x64-uefi --json
//	mage build x64-uefi --sign release.key
func Build(ctx context.Context, target string, locked, json *bool, events, out, artefacts, sign, signcmd, signpub, signinput *string) error {
	return in(json, locked, events, func(w *workspace.Workspace) error {
		w.OutDir, w.List = value(out), value(artefacts)
		w.Signing = signing(sign, signcmd, signpub, signinput)
		_, err := w.Build(ctx, target)
		return err
	})
}

// signing are the options that say with what results are signed.
func signing(key, command, public, input *string) workspace.Signing {
	return workspace.Signing{Key: value(key), Command: value(command), Public: value(public), Input: value(input)}
}

// Run builds a target and boots it in QEMU.
//
// On a terminal it shows the device's console. Elsewhere it waits until every container has
// reached its goal and has been stable, prints a summary, with --json as JSON, and powers
// off; a container that ends or is started again before that is a failure (docs/run.md).
//
//	--machine=NAME         one of the target's emulators; default: the first
//	--forward=PORT:PORT    a port of this machine leads to one of the device; several
//	                       with commas or several times; ADDRESS:PORT:PORT, PORT:PORT/udp
//	--settle=10s           how long the containers must be stable
//	--logs=DIR             the logs of console and device are written to DIR
//	--junit=FILE           a report of the containers in JUnit's form, also on a terminal without its console
//	--keep                 the disk stays for the next run with --keep
//	--out=DIR              results go to DIR/TARGET
//	--events=FILE          what the build does as JSON lines, as for mage build; with -
//	                       standard output has nothing else, the summary is the last line
//	-- ARGUMENT...         further arguments of QEMU
//
//	mage run x64-uefi
//	mage run x64-uefi --json --logs=logs < /dev/null
//	mage run x64-uefi --forward 8080:80 -- -device usb-ehci
func Run(ctx context.Context, target string, machine, forward, settle, logs, junit *string, keep, locked, json *bool, events, out *string) error {
	r := workspace.RunOptions{
		Machine: value(machine), Settle: value(settle), Logs: value(logs), JUnit: value(junit), Keep: given(keep), Args: behindDashes,
	}
	if forward != nil {
		r.Forward = strings.Split(*forward, ",")
	}
	return in(json, locked, events, func(w *workspace.Workspace) error {
		w.OutDir = value(out)
		return w.Run(ctx, target, r)
	})
}

// Size says where the bytes of a target, an image or an export are, and what is left of budgets.
//
//	--html=FILE     writes a page with a treemap for browsers, without scripts
//	--svg=FILE      writes the treemap as a picture
//	--compare=WHAT  shows what has grown since: another target, image or export, an output of
//	                --json, a file of --save
//	--save          builds the target and keeps its sizes in targets/TARGET/sizes.json, for
//	                budgets of later builds (docs/size.md)
//	--json          prints all sizes as JSON
//	--out=DIR       results of targets are in DIR/TARGET
//
//	mage size x64-uefi --html=size.html
//	mage size x64-uefi --compare=last-release.img.xz
func Size(ctx context.Context, what string, html, svg, compare, out *string, save, json *bool) error {
	return in(json, nil, nil, func(w *workspace.Workspace) error {
		w.OutDir = value(out)
		return w.Size(ctx, what, workspace.SizeOptions{HTML: value(html), SVG: value(svg), Compare: value(compare), Save: given(save)})
	})
}

// value is the value of an option, "" when it was not given.
func value(option *string) string {
	if option == nil {
		return ""
	}
	return *option
}

// Export makes containers as exports (.pvr.tgz) under out/TARGET/containers.
//
// pvr merge, pvr app add and PVR_MERGE_SRC take them. Several containers are words behind
// each other.
//
//	--target=TARGET  for which target; default: the only one that lists them
//
//	mage export network sdk
//	mage export hello --target=x64-uefi --json
func Export(ctx context.Context, containers string, target *string, locked, json *bool) error {
	return in(json, locked, nil, func(w *workspace.Workspace) error {
		return w.Export(ctx, value(target), strings.Split(containers, ","))
	})
}

// Inputs saves all inputs of a target into a new directory, with a list of them, inputs.json.
//
// mage compose and pvcompose make the same image of it, bit by bit, on a machine without this
// workspace and without a network (docs/compose.md).
//
//	--locked  fails where a pinned part has left the archive
//	--json    prints target and list as JSON
//
//	mage inputs x64-uefi inputs
func Inputs(ctx context.Context, target, dir string, locked, json *bool) error {
	return in(json, locked, nil, func(w *workspace.Workspace) error { return w.Inputs(ctx, target, dir) })
}

// Compose makes what a list of inputs wants, under out/TARGET.
//
// It is pvcompose build: nothing but the list and its inputs is read (docs/compose.md).
//
//	--out=DIR      makes it in DIR
//	--json         prints the report as JSON
//	--events=FILE  writes what happens as JSON lines, - to standard output
//
//	mage compose inputs/inputs.json
func Compose(ctx context.Context, list string, json *bool, events, out *string) error {
	return in(json, nil, events, func(w *workspace.Workspace) error {
		w.OutDir = value(out)
		return w.Compose(ctx, list)
	})
}

// Device makes a checkout of the target's revision 0, with its BSP and containers, in a
// new directory.
//
// pvr adds applications to it, and PVR_MERGE_SRC=DIR/.pvr builds an image of it
// (docs/containers.md).
//
//	mage device x64-uefi device
//	mage device x64-uefi device --json
func Device(ctx context.Context, target, dir string, locked, json *bool) error {
	return in(json, locked, nil, func(w *workspace.Workspace) error { return w.Device(ctx, target, dir) })
}

// Dist makes the host tool pvr for Linux, macOS and Windows, pvci for Linux, and the source.
//
// There is an archive for each platform under out/dist, the source with all modules that it
// needs, for builds without a network, and SHA256SUMS; the same sources give the same bytes. PV_VERSION is in the names and is what pvr calls itself. The
// archives of an earlier run with other platforms are removed.
//
//	--platform=OS/ARCH  for which platform, or OS alone, or source; several with commas or
//	                    several times; default: all
//	--out=DIR           results go to DIR
//	--json              prints the report as JSON
//	--events=FILE       writes what happens as JSON lines, - to standard output
//
//	mage dist
//	mage dist --platform linux/arm64 --platform darwin
//	mage dist --platform source
//	PV_VERSION=1.0 mage dist --out=release --json
func Dist(ctx context.Context, platform *string, json *bool, events, out *string) error {
	var names []string
	if platform != nil {
		names = strings.Split(*platform, ",")
	}
	return in(json, nil, events, func(w *workspace.Workspace) error {
		w.OutDir = value(out)
		return w.Dist(ctx, names)
	})
}

// Release builds targets, and puts all that is to be published of each into one directory.
//
// It has the image with its other forms and block map, exports, bill of materials, record of the
// build, index.json and SHA256SUMS; with a key signatures and provenance too. What must not be
// released is refused, for all targets at once: a debug shell, keys that everybody has, no version.
// A directory is made as a whole, and one that is there is not changed (docs/release.md).
//
//	--version=V    the version of the firmware, as PV_VERSION
//	--out=DIR      makes them in DIR/TARGET-V; default: out/release
//	--sign=KEY     signs them with a private key: PEM, or of minisign or cosign
//	--signcmd=CMD  signs with a program, with --signpub=FILE and --signinput=INPUT, as mage build
//	--locked       fails where a pinned part has left the archive
//	--json         prints what each has as JSON
//
//	mage release x64-uefi rpi64 --version 1.0 --sign release.key
//	mage release x64-uefi --version "$(git describe)" --out /srv/releases --locked --json
func Release(ctx context.Context, targets string, version, out, sign, signcmd, signpub, signinput *string, locked, json *bool) error {
	return in(json, locked, nil, func(w *workspace.Workspace) error {
		w.OutDir, w.Signing = value(out), signing(sign, signcmd, signpub, signinput)
		return w.Release(ctx, strings.Split(targets, ","), value(version))
	})
}

// Buildroot checks the external tree integration/buildroot in a tree of Buildroot.
//
// The cheap steps come first: defconfigs, check-package, show-info, then the packages with this
// machine's Go, and their licences. Last come whole builds of containers and BSPs for x86_64 and
// aarch64, whose images are booted in QEMU. Buildroot downloads nothing: what these builds would
// compile from sources of others are files of Debian and programs of this machine, and the kernels are
// those of x64-uefi-lean and qemu-aarch64-lean, which are compiled the first time.
//
//	--tree=DIR   a directory with Buildroot
//	--only=TEXT  only the steps whose names have this text
//	--json       prints the results as JSON
//
//	mage buildroot --tree=buildroot-2026.02.3
//	mage buildroot --tree=buildroot-2026.02.3 --only=x86_64
func Buildroot(ctx context.Context, tree, only *string, json *bool) error {
	return in(json, nil, nil, func(w *workspace.Workspace) error { return w.Buildroot(ctx, value(tree), value(only)) })
}

// Flash writes an image to a disk, and verifies it.
//
// The image is the one that was built for a target, or a file: as it is, or as gz, bz2, xz, zst
// or zip. Only the blocks that it uses are written. First it shows what is on the disk, and
// asks; it rejects disks that are in use, built into this machine, or those that it runs from. A
// disk where this has stopped half-way has no partition table, and says so (docs/flash.md).
//
//	--yes          does not ask
//	--unmount      unmounts what is mounted of the disk first
//	--permanent    allows a disk that is built into this machine
//	--whole        writes the blocks that the image does not use, too
//	--json         prints what was done as JSON
//	--events=FILE  writes how far it is as JSON lines, - to standard output
//	--out=DIR      a target's results are in DIR/TARGET
//	--from=PLACE   takes a release of a board from the catalogue at an address or in a directory: the
//	               newest stable one, or that of --channel=NAME or --version=V. With --key=FILE it must
//	               be signed with this public key
//
//	mage flash x64-uefi /dev/sdb
//	mage flash rpi64 sdb --from https://images.example/my-project --key release.pub
//	mage flash release.img.xz mmcblk0 --yes --json
//	mage flash rpi64 sdb --unmount --events=-
func Flash(ctx context.Context, image, device string, yes, unmount, permanent, whole, json *bool, events, out, from, channel, version, key *string) error {
	o := workspace.FlashOptions{
		Yes: given(yes), Unmount: given(unmount), Permanent: given(permanent), Whole: given(whole),
		From: value(from), Channel: value(channel), Version: value(version), Key: value(key),
	}
	if term.IsTerminal(int(os.Stdin.Fd())) && term.IsTerminal(int(os.Stderr.Fd())) {
		o.Answers = os.Stdin
	}
	return in(json, nil, events, func(w *workspace.Workspace) error {
		w.OutDir = value(out)
		return w.Flash(ctx, image, device, o)
	})
}

// Personalize sets what is particular to one device in a finished image or on a card.
//
// The image is the one that was built for a target, or a file: as it is, or as xz or zst. Nothing
// is mounted. Without a change it shows what is set (docs/flash.md). A value that begins with @ is
// the content of a file, of the standard input for @-.
//
//	--hub=HOST[:PORT]          the address of the Hub
//	--token=TOKEN              claims the device by itself
//	--hostname=NAME            the name of the device
//	--ipv4=, --ipv6=           off, dhcp or auto, or ADDRESS/MASK/GATEWAY
//	--dns=ADDRESS[,ADDRESS]    name servers
//	--ifname=NAME              the one interface to use
//	--nettype=TYPE             ethernet, gadget or wifi
//	--wifi=SSID                a wireless network, with --wifipassword=PASSWORD and
//	                           --wifisecurity=psk, none, wep or ieee8021x
//	--container=NAME           whose settings of the network these are; default: network
//	--sshkey=FILE              public keys
//	--meta=KEY=VALUE           user metadata; several times for several keys
//	--unset=NAME               removes what is shown by this name; several times for several
//	--remove                   removes all that is not set by the same command
//	--to=FILE                  makes a changed copy, and leaves the image as it is
//	--show                     shows what is set, and changes nothing
//	--secrets                  shows them; else they are asterisks
//	--json                     prints what is set as JSON
//	--out=DIR                  a target's results are in DIR/TARGET
//
//	mage personalize x64-uefi --hostname sensor-7 --ipv4 192.168.1.7/24/192.168.1.1 --to sensor-7.img
//	mage personalize /dev/sdb --token @token.txt --sshkey ~/.ssh/id_ed25519.pub
//	mage personalize release.img.xz --to card.img.xz --wifi Home --wifipassword @- --container wifi
//	mage personalize /dev/sdb --show --secrets
//	mage personalize /dev/sdb --remove
func Personalize(ctx context.Context, image string, hub, token, hostname, nettype, ipv4, ipv6, dns, ifname, wifi, wifipassword, wifisecurity, container, sshkey, meta, unset, to *string,
	remove, show, secrets, json *bool, out *string,
) error {
	o := workspace.PersonalizeOptions{
		Hub: value(hub), Token: value(token), Hostname: value(hostname), NetType: value(nettype), IPv4: value(ipv4), IPv6: value(ipv6),
		DNS: value(dns), Interface: value(ifname), WiFi: value(wifi), WiFiPassword: value(wifipassword), WiFiSecurity: value(wifisecurity),
		Container: value(container), SSHKey: value(sshkey), Meta: values(meta), Unset: values(unset), To: value(to),
		Remove: given(remove), Secrets: given(secrets), Show: given(show), Stdin: os.Stdin,
	}
	return in(json, nil, nil, func(w *workspace.Workspace) error {
		w.OutDir = value(out)
		return w.Personalize(ctx, image, o)
	})
}

// values are those of an option that may be given several times.
func values(option *string) []string {
	if option == nil {
		return nil
	}
	return strings.Split(*option, between)
}

// given reports whether an option was given.
func given(option *bool) bool { return option != nil && *option }

// Disks lists the disks of this machine, with what uses them.
//
//	mage disks
//	mage disks --json
func Disks(json *bool) error {
	return in(json, nil, nil, func(w *workspace.Workspace) error { return w.Disks() })
}

// Targets lists the boards.
//
//	mage targets
//	mage targets --json
func Targets(json *bool) error {
	return in(json, nil, nil, func(w *workspace.Workspace) error { return w.Targets() })
}

// Plan prints the resolved graph without running it, as text, json or dot; --json is
// --format=json.
//
// As text and json it also says where each input came from: the workspace, or this module.
//
//	mage plan x64-uefi
//	mage plan x64-uefi --format=dot | dot -Tsvg > plan.svg
func Plan(ctx context.Context, target string, format *string, locked, json *bool) error {
	return in(json, locked, nil, func(w *workspace.Workspace) error { return w.Plan(ctx, target, value(format)) })
}

// Diff says how two things differ that the build makes or that are made of them.
//
// Each is the name of a target that was built, a disk image, compressed or not, an export, a
// checkout, a plan that mage plan --json wrote, the control socket of a device, or the address
// of one that pvr has. Exit code 0: they are equal; 11: they differ (docs/diff.md).
//
//	--json      prints all differences as JSON
//	--markdown  prints them as a comment for a merge request
//
//	mage diff x64-uefi last.img
//	mage diff release-1.img.xz release-2.img.xz --json
//	mage diff out/x64-uefi/x64-uefi.pvr.tgz http://192.168.53.1:12368/cgi-bin/pvr --markdown
func Diff(ctx context.Context, a, b string, json, markdown *bool) error {
	return in(json, nil, nil, func(w *workspace.Workspace) error {
		return w.Diff(ctx, a, b, given(markdown))
	})
}

// CRA writes the list for a product's technical file: parts, licences, vulnerabilities, keys.
//
// It is out/TARGET/cra.md and cra.json, for the documentation of Regulation (EU) 2024/2847: what
// the target that was built is made of, what is known of its vulnerabilities, how it is updated
// and reset, which keys it trusts, until when it is supported, and what of that nobody has said
// (docs/vulns.md).
//
//	--data=FILE[,FILE]  files and directories with vulnerability data; default: PV_VULN_DATA
//	--vex=FILE[,FILE]   further statements, besides those in config/PLATFORM/vex
//	--json              prints the list as JSON
//	--out=DIR           the target's results are in DIR/TARGET
//
//	mage cra x64-uefi --data tracker.json,osv/
func CRA(ctx context.Context, target string, data, vex *string, json *bool, out *string) error {
	return in(json, nil, nil, func(w *workspace.Workspace) error {
		w.OutDir = value(out)
		return w.CRA(ctx, target, workspace.VulnsOptions{Data: value(data), VEX: value(vex)})
	})
}

// Sbom prints what a target is made of: its bill of materials, in the form that you name.
//
// In place of the target, which was built before, it takes the directory of a release or the file of a
// document. The build leaves a document of the image that refers to those of the parts of the revision, and
// to received ones (PV_MERGE_SBOM); --flat joins them to one. Where two of them say different things, both
// are printed as a conflict, and the first one's word is in the document (docs/sbom.md).
//
//	--format=FORM  spdx (2.3, the default), spdx3 (3.0.1) or cyclonedx (1.6)
//	--flat         one document with everything
//	--host-tools   with those that received documents name
//	--to=FILE      writes it to a file
//	--json         prints the number of packages, files and the conflicts as JSON; needs --to
//	--out=DIR      a target's results are in DIR/TARGET
//
//	mage sbom x64-uefi --format cyclonedx --flat --to bom.json
func Sbom(ctx context.Context, target string, format *string, flat, hosttools *bool, to *string, json *bool, out *string) error {
	return in(json, nil, nil, func(w *workspace.Workspace) error {
		w.OutDir = value(out)
		return w.SBOM(ctx, target, workspace.SBOMOptions{Format: value(format), Flat: given(flat), HostTools: given(hosttools), To: value(to)})
	})
}

// Vulns says which known vulnerabilities affect what was built, and which versions mend them.
//
// It joins the bill of materials of a target, or of a release, with data that you give as files:
// Debian's security tracker, OSV records, CVE records of the kernel, VEX. It fetches nothing, and
// needs no build. Exit code 0: nothing that --fail-on names; 13: something (docs/vulns.md).
//
//	--data=FILE[,FILE]  files and directories with data; default: PV_VULN_DATA
//	--vex=FILE[,FILE]   further statements, besides those in config/PLATFORM/vex
//	--fail-on=WORDS     states, one severity, uncovered, or none; default: affected
//	--all               shows what the data rule out too
//	--json              prints the result as JSON
//	--markdown          prints it as a comment for a merge request
//	--out=DIR           a target's results are in DIR/TARGET
//
//	mage vulns x64-uefi --data tracker.json,osv/
//	mage vulns x64-uefi-1.0/sbom.json --data tracker.json --fail-on high,unknown --markdown
func Vulns(ctx context.Context, target string, data, vex, failon *string, all, markdown, json *bool, out *string) error {
	return in(json, nil, nil, func(w *workspace.Workspace) error {
		w.OutDir = value(out)
		return w.Vulns(ctx, target, workspace.VulnsOptions{Data: value(data), VEX: value(vex), FailOn: value(failon), All: given(all), Markdown: given(markdown)})
	})
}

// Verify builds a target again and compares it bit by bit with what was built before, or with
// a file; with a public key it verifies signatures.
//
// The packages are those that the record of the build pins, report.json beside the results or
// the file; path, user, umask, time zone, locale and number of cores are others. What differs
// first is named down to the file, the inode or the block. Exit code 0: the same; 11: not
// (docs/diff.md).
//
// With --key it verifies first that the results, or the file, are those that were signed. In
// place of a target it then takes a directory of results or of a release, or a file there, and
// builds nothing (docs/release.md).
//
//	--key=FILE     a public key or a certificate in PEM, or a public key of minisign
//	--record=FILE  the report.json of the build, when it is in another place
//	--parts=DIR    takes the packages from a directory of mage parts:export
//	--offline      builds without a network
//	--results=DIR  keeps what was rebuilt in DIR/TARGET
//	--json         prints the result as JSON
//
//	mage verify x64-uefi
//	mage verify x64-uefi release/x64-uefi-pv-4096MiB.img.xz
//	mage verify x64-uefi release.img --record=release.json --parts=parts --offline
//	mage verify ./x64-uefi-1.0 --key release.pub
//	mage verify x64-uefi x64-uefi-1.0/x64-uefi-pv-4096MiB.img --key release.pub
func Verify(ctx context.Context, target, image string, key, record, parts, results *string, offline, json *bool) error {
	return in(json, nil, nil, func(w *workspace.Workspace) error {
		return w.Verify(ctx, target, workspace.VerifyOptions{
			Image: image, Record: value(record), Parts: value(parts), Results: value(results), Offline: given(offline), Key: value(key),
		})
	})
}

// Parts keeps the packages that images are made of.
type Parts mg.Namespace

// Export copies the packages of a target's lock into a directory, by their digests.
//
// Archives replace versions: with these, and the source of mage dist, a release can be built
// and verified when the archive does not have them any more.
//
//	mage parts:export x64-uefi parts
func (Parts) Export(ctx context.Context, target, dir string, json *bool) error {
	return in(json, nil, nil, func(w *workspace.Workspace) error { return w.ExportParts(ctx, target, dir) })
}

// Import puts the packages of a directory of mage parts:export into the download cache.
//
//	mage parts:import parts
func (Parts) Import(ctx context.Context, dir string, json *bool) error {
	return in(json, nil, nil, func(w *workspace.Workspace) error { return w.ImportParts(ctx, dir) })
}

// Why says which input of a step changed since it was last made, with old and new digest.
//
//	mage why x64-uefi initrd/base
func Why(ctx context.Context, target, step string, json *bool) error {
	return in(json, nil, nil, func(w *workspace.Workspace) error { return w.Why(ctx, target, step) })
}

// Clean removes what was made for a target; downloads stay.
//
// With --out=DIR its results are those in DIR/TARGET.
//
//	mage clean x64-uefi
//	mage clean x64-uefi --json
func Clean(ctx context.Context, target string, out *string, json *bool) error {
	return in(json, nil, nil, func(w *workspace.Workspace) error {
		w.OutDir = value(out)
		return w.Clean(ctx, target)
	})
}

// Component makes one component of a target.
//
// There are init, initrd, kernel, bsp, trail and image; with -clean behind its name a
// component is forgotten. It prints the directory of each step's output, with --json as
// JSON; with --events=- as the last of the events.
//
//	mage component x64-uefi initrd
//	mage component x64-uefi initrd-clean
//	mage component x64-uefi kernel --json
//	mage component x64-uefi bsp --events=-
func Component(ctx context.Context, target, name string, locked, json *bool, events *string) error {
	return in(json, locked, events, func(w *workspace.Workspace) error { return w.Component(ctx, target, name) })
}

// Lock moves the pinned parts of a target to the newest of their suite.
//
// It downloads everything that a build needs, which then works without a network.
//
//	mage lock x64-uefi
//	mage lock x64-uefi --json
func Lock(ctx context.Context, target string, json *bool) error {
	return in(json, nil, nil, func(w *workspace.Workspace) error { return w.Lock(ctx, target) })
}

// Kernel are commands on kernels.
type Kernel mg.Namespace

// Check compares a kernel's options with those that the runtime needs.
//
// It takes a .config, a config-RELEASE, a config.gz, or a kernel that has its configuration in
// it (CONFIG_IKCONFIG), and says of each missing option what it is needed for and what happens
// without it.
//
//	--json  prints what is missing as JSON
//
//	mage kernel:check linux/.config
//	mage kernel:check /boot/vmlinuz-6.1.0
func (Kernel) Check(config string, json *bool) error {
	return in(json, nil, nil, func(w *workspace.Workspace) error { return w.KernelCheck(config) })
}

// Appengine are the App Engine tests under test/suites.
type Appengine mg.Namespace

// Ls lists the App Engine tests with their numbers and where they come from.
//
//	mage appengine:ls
//	mage appengine:ls --json
func (Appengine) Ls(json *bool) error {
	return in(json, nil, nil, func(w *workspace.Workspace) error { return appengine.ListCommand(w) })
}

// Run runs App Engine tests: the workspace's own, a GROUP, or one as GROUP:NUMBER.
//
//	-i  opens a console in place of the test script
//	-m  with -i: before the App Engine is started
//	-o  records the results
//	--junit=FILE  a report in JUnit's form
//
//	mage appengine:run
//	mage appengine:run local
//	mage appengine:run local:0 -i
//	mage appengine:run local:0 -o
func (Appengine) Run(ctx context.Context, test string, i, m, o, json *bool, junit *string) error {
	return in(json, nil, nil, func(w *workspace.Workspace) error {
		return appengine.RunCommand(ctx, w, test, appengine.Mode{Interactive: given(i), Manual: given(m), Overwrite: given(o), JUnit: value(junit)})
	})
}

// Add makes a new test in a group.
//
//	mage appengine:add local
//	mage appengine:add local --json
func (Appengine) Add(group string, json *bool) error {
	return in(json, nil, nil, func(w *workspace.Workspace) error { return appengine.AddCommand(w, group) })
}

// Test runs everything there is to test: the linter, all tests, the VM boots.
//
//	--junit=FILE  a report of the tests in JUnit's form
//
//	mage test
//	mage test --junit=tests.xml
func Test(ctx context.Context, junit *string) error {
	w, err := workspace.New()
	if err != nil {
		return end(err)
	}
	if err := w.PrepareTests(ctx); err != nil {
		return end(err)
	}
	return end(checks.Test(ctx, value(junit)))
}

// Attack runs hostile containers on machines with each kind of control groups, and on a device.
//
// It needs root and, where KVM does not work, half an hour; mage test runs them on this
// machine only.
//
//	sudo mage attack
func Attack(ctx context.Context) error {
	w, err := workspace.New()
	if err == nil {
		err = w.NeedsCheckout("mage attack")
	}
	if err == nil {
		err = w.PrepareTests(ctx)
	}
	if err != nil {
		return end(err)
	}
	return end(checks.Attack(ctx))
}

// Powercut cuts the power of a virtual device at each moment of its updates (docs/powercut.md).
//
// The disk is judged at each write and flush, with writes that were not flushed missing and
// torn; 100 of the disks are booted. It takes an hour for each target where KVM does not work.
//
//	--target=TARGET  which devices, separated by commas; default: x64-uefi,qemu-aarch64
//	--boots=N        boots N of the disks; default: 100
//	--kills=N        kills N running machines and boots their disks; default: 0
//	--all            boots the disk at every write and flush, and kills 10 running machines
//	--json           prints the reports as JSON
//
//	mage powercut
//	mage powercut --target=qemu-aarch64 --all
func Powercut(ctx context.Context, target *string, boots, kills *int, all, json *bool) error {
	w, err := workspace.New()
	if err == nil {
		err = w.NeedsCheckout("mage powercut")
	}
	if err == nil {
		err = w.PrepareTests(ctx)
	}
	if err != nil {
		return end(err)
	}
	o := powercut.Options{Root: w.Root, Losses: 3, Boots: 100, Seed: 1, Progress: func(line string) { fmt.Fprintln(w.Stderr, line) }}
	if given(all) {
		o.Losses, o.Boots, o.Kills = 8, -1, 10
	}
	for to, given := range map[*int]*int{&o.Boots: boots, &o.Kills: kills} {
		if given != nil {
			*to = *given
		}
	}
	var reports []*powercut.Report
	for _, o.Target = range strings.Split(cmp.Or(value(target), "x64-uefi,qemu-aarch64"), ",") {
		r, err := powercut.Run(ctx, o)
		if r != nil {
			reports = append(reports, r)
		}
		if err != nil {
			return end(errors.Join(err, powercut.Print(w.Stdout, reports, given(json))))
		}
	}
	return end(powercut.Print(w.Stdout, reports, given(json)))
}

// Yocto checks the layer for Yocto in trees of OpenEmbedded-Core and BitBake (docs/yocto.md).
//
// It parses all recipes, builds composer and runtime, bundles of a container and of a whole
// revision, and images for two machines with the kernel of a target, which it boots in QEMU.
// BitBake has no network. Without trees it says what it did not run.
//
//	--oecore=DIR   is a tree of OpenEmbedded-Core, of scarthgap or wrynose
//	--bitbake=DIR  is the tree of BitBake for it; default: bitbake in the other
//	--source=FILE  is the source that mage dist --platform source makes; default: it is made
//	--out=DIR      builds in DIR; default: out/yocto
//	--layer        runs yocto-check-layer too
//	--json         prints the results as JSON
//
//	mage yocto --oecore=openembedded-core --bitbake=bitbake
func Yocto(ctx context.Context, oecore, bitbake, source, out *string, layer, json *bool) error {
	return in(json, nil, nil, func(w *workspace.Workspace) error {
		if err := w.NeedsCheckout("mage yocto"); err != nil {
			return err
		}
		return w.Yocto(ctx, yocto.Options{OECore: value(oecore), BitBake: value(bitbake), Source: value(source), Work: value(out), Layer: given(layer)})
	})
}

// Boards boots every target that QEMU can run until its containers have reached their goals.
//
// mage test boots one target for each boot loader only; this builds all of them first. With
// --target it boots those named, separated by commas. mage test:vm is the same.
//
//	mage boards
//	mage boards --target=qemu-arm,qemu-riscv64
func Boards(ctx context.Context, target *string) error {
	w, err := workspace.New()
	if err == nil {
		err = w.NeedsCheckout("mage boards")
	}
	if err == nil {
		err = w.PrepareTests(ctx)
	}
	if err != nil {
		return end(err)
	}
	return end(checks.Boards(ctx, cmp.Or(value(target), "all")))
}

// Arch runs the tests of revisions and of the device as programs of other CPUs.
//
// It takes those that need no privilege, for arm64, arm, mips, mipsle and riscv64 in QEMU's
// emulator of single programs; mage test takes only packages with other files for those
// CPUs. mage test:arch is the same.
//
//	mage arch
func Arch(ctx context.Context) error {
	w, err := workspace.New()
	if err == nil {
		err = w.NeedsCheckout("mage arch")
	}
	if err == nil {
		err = w.PrepareTests(ctx)
	}
	if err != nil {
		return end(err)
	}
	return end(checks.CPUs(ctx))
}

// Bench measures what docs/benchmarks.md lists and writes it there.
//
// With --only NAME it makes one of the measurements, by the name that is shown while they are
// made, and replaces its rows. With --packages it runs the benchmarks of all packages instead, as
// go test prints them.
//
//	mage bench
//	mage bench --only "images of pvcompose"
//	mage bench --json
//	mage bench --packages
func Bench(ctx context.Context, packages, json *bool, only *string) error {
	if given(packages) {
		if given(json) {
			return end(fault.New(fault.BadInput, "--packages prints what go test does, which is not JSON: leave out --json"))
		}
		return end(checks.Benchmarks(ctx))
	}
	return in(json, nil, nil, func(w *workspace.Workspace) error {
		if err := w.NeedsCheckout("mage bench without --packages"); err != nil {
			return err
		}
		rows, err := bench.Run(ctx, w.Root, value(only), os.Stderr)
		if err != nil {
			return err
		}
		if w.JSON {
			return w.Print(rows)
		}
		return bench.Print(os.Stdout, rows)
	})
}

// Fuzz runs every fuzz target for a while, 60s or what --span says.
//
// The errors of all that found something are repeated at the end.
//
//	mage fuzz
//	mage fuzz --span=5m
func Fuzz(ctx context.Context, span *string) error {
	time := "60s"
	if span != nil {
		time = *span
	}
	return end(checks.Fuzz(ctx, time))
}

// Lint checks form and style.
//
//	mage lint
func Lint(ctx context.Context) error { return end(checks.Lint(ctx)) }

package rpmdb

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pantavisor/pantavisor/internal/oracle"
)

// encode makes a header as rpm stores it.
func encode(p Package) []byte {
	var entries, data bytes.Buffer
	count := 0
	be := binary.BigEndian
	put := func(tag, kind uint32, values ...any) {
		if kind == typeInt32 {
			data.Write(make([]byte, (4-data.Len()%4)%4))
		}
		for _, v := range []uint32{tag, kind, uint32(data.Len()), uint32(len(values))} {
			_ = binary.Write(&entries, be, v)
		}
		for _, v := range values {
			if s, ok := v.(string); ok {
				data.WriteString(s + "\x00")
				continue
			}
			_ = binary.Write(&data, be, v.(uint32))
		}
		count++
	}
	put(tagName, typeString, p.Name)
	put(tagVersion, typeString, p.Version)
	put(tagRelease, typeString, p.Release)
	put(tagArch, typeString, p.Arch)
	put(tagLicence, typeString, p.Licence)
	put(tagVendor, typeI18N, p.Vendor)
	put(tagSource, typeString, p.SourceName)
	if p.Epoch >= 0 {
		put(tagEpoch, typeInt32, uint32(p.Epoch))
	}
	var names, dirs, at []any
	for _, f := range p.Files {
		i := strings.LastIndexByte(f, '/') + 1
		at, dirs, names = append(at, uint32(len(dirs))), append(dirs, f[:i]), append(names, f[i:])
	}
	put(tagDirIndexes, typeInt32, at...)
	put(tagBaseNames, typeStrings, names...)
	put(tagDirNames, typeStrings, dirs...)
	out := be.AppendUint32(nil, uint32(count))
	out = be.AppendUint32(out, uint32(data.Len()))
	return append(append(out, entries.Bytes()...), data.Bytes()...)
}

// samples are packages, one of them with a header of many pages.
func samples() []Package {
	list := []Package{
		{Name: "bash", Version: "5.1", Release: "2.el9", Epoch: -1, Arch: "x86_64", Licence: "GPLv3+", Vendor: "Demo", SourceName: "bash-5.1-2.el9.src.rpm", Files: []string{"/bin/bash", "/etc/skel/.bashrc"}},
		{Name: "vim", Version: "9", Release: "1", Epoch: 2, Arch: "noarch", Licence: "Vim and MIT"},
	}
	for i := range 2000 {
		list[1].Files = append(list[1].Files, fmt.Sprintf("/usr/share/vim/%d.vim", i))
	}
	return list
}

// ndb makes a database in the form of SUSE, with an empty slot between the packages.
func ndb(list []Package) []byte {
	le := binary.LittleEndian
	out := make([]byte, ndbPage)
	copy(out, ndbMagic)
	le.PutUint32(out[12:], 1)
	for at := 2 * ndbSlot; at < ndbPage; at += ndbSlot {
		copy(out[at:], "Slot")
	}
	for i, p := range list {
		slot := out[(2+2*i)*ndbSlot:]
		le.PutUint32(slot[4:], uint32(i+1))
		le.PutUint32(slot[8:], uint32(len(out)/ndbSlot))
		data := encode(p)
		blob := append([]byte("BlbS"), make([]byte, 12)...)
		le.PutUint32(blob[4:], uint32(i+1))
		le.PutUint32(blob[12:], uint32(len(data)))
		out = append(append(out, blob...), data...)
		out = append(out, make([]byte, ndbSlot-len(out)%ndbSlot)...)
	}
	return out
}

// hash makes a hash table of Berkeley DB: a page with the keys, and the values in pages of their own.
func hash(list []Package, order binary.ByteOrder) []byte {
	const size = 512
	meta, page := make([]byte, size), make([]byte, size)
	order.PutUint32(meta[12:], hashMagic)
	order.PutUint32(meta[20:], size)
	page[25] = hashSorted
	order.PutUint16(page[20:], uint16(2+2*len(list)))
	end := size
	item := func(n int, data []byte) {
		end -= len(data)
		copy(page[end:], data)
		order.PutUint16(page[hashHeader+2*n:], uint16(end))
	}
	item(0, []byte{1, 0, 0, 0, 0})
	item(1, []byte{1, 9, 9, 9, 9}) // the count of packages is no package
	var rest []byte
	for i, p := range list {
		data := encode(p)
		item(2+2*i, []byte{1, byte(i), 0, 0, 0})
		value := make([]byte, 12)
		value[0] = hashOffPage
		order.PutUint32(value[4:], uint32(2+len(rest)/size))
		order.PutUint32(value[8:], uint32(len(data)))
		item(3+2*i, value)
		for len(data) > 0 {
			n := min(len(data), size-hashHeader)
			part := make([]byte, size)
			part[25] = hashOverflow
			order.PutUint16(part[22:], uint16(n))
			copy(part[hashHeader:], data[:n])
			if data = data[n:]; len(data) > 0 {
				order.PutUint32(part[16:], uint32(3+len(rest)/size))
			}
			rest = append(rest, part...)
		}
	}
	order.PutUint32(meta[32:], uint32(1+len(rest)/size))
	return append(append(meta, page...), rest...)
}

// read returns the packages of a database.
func read(db []byte) (list []Package, err error) {
	err = Read(bytes.NewReader(db), int64(len(db)), func(p *Package) error {
		list = append(list, *p)
		return nil
	})
	return list, err
}

func TestForms(t *testing.T) {
	t.Parallel()
	for form, db := range map[string][]byte{
		"ndb": ndb(samples()), "hash": hash(samples(), binary.LittleEndian), "hash of a big-endian machine": hash(samples(), binary.BigEndian),
		"sqlite": sqliteOf(samples()),
	} {
		got, err := read(db)
		if err != nil {
			t.Errorf("%s: %v", form, err)
		}
		if diff := cmp.Diff(samples(), got); diff != "" {
			t.Errorf("%s: %s", form, diff)
		}
		for _, cut := range []int{0, 50, 99, 200, len(db) / 2, len(db) - 600} {
			if got, err := read(db[:cut]); !errors.Is(err, errFormat) {
				t.Errorf("%s, cut at %d: %d packages, %v", form, cut, len(got), err)
			}
		}
	}
}

// sqliteOf makes a database of SQLite by hand: the schema, an interior page, a leaf for each package, and
// pages for what does not fit.
func sqliteOf(list []Package) []byte {
	const size = 512
	be := binary.BigEndian
	f := sqlite{usable: size}
	first := make([]byte, size)
	copy(first, sqliteMagic)
	be.PutUint16(first[16:], size)
	record := func(values ...any) []byte {
		var kinds, body []byte
		for _, v := range values {
			switch v := v.(type) {
			case int:
				kinds, body = append(kinds, 1), append(body, byte(v))
			case string:
				kinds, body = append(kinds, putVarint(int64(len(v))*2+13)...), append(body, v...)
			case []byte:
				kinds, body = append(kinds, putVarint(int64(len(v))*2+12)...), append(body, v...)
			case nil:
				kinds = append(kinds, 0)
			}
		}
		return append(append(putVarint(int64(len(kinds)+1)), kinds...), body...)
	}
	leaf := func(page []byte, header int, cell []byte) {
		at := size - len(cell)
		copy(page[at:], cell)
		page[header] = tableLeaf
		be.PutUint16(page[header+3:], 1)
		be.PutUint16(page[header+8:], uint16(at))
	}
	row := record("table", "Packages", "Packages", 2, "CREATE TABLE Packages(hnum INTEGER PRIMARY KEY, blob BLOB)")
	leaf(first, 100, append(append(putVarint(int64(len(row))), 1), row...))
	interior := make([]byte, size)
	interior[0] = tableInterior
	be.PutUint16(interior[3:], uint16(len(list)-1))
	out := append(first, interior...)
	for i, p := range list {
		page := len(out)/size + 1
		if i == len(list)-1 {
			be.PutUint32(out[size+8:], uint32(page))
		} else {
			at := 400 + 8*i
			be.PutUint32(out[size+at:], uint32(page))
			be.PutUint16(out[size+12+2*i:], uint16(at))
		}
		row := record(nil, encode(p))
		local := f.local(int64(len(row)))
		cell := append(append(putVarint(int64(len(row))), byte(i+1)), row[:local]...)
		rest := row[local:]
		if len(rest) > 0 {
			cell = be.AppendUint32(cell, uint32(page+1))
		}
		content := make([]byte, size)
		leaf(content, 0, cell)
		out = append(out, content...)
		for len(rest) > 0 {
			n := min(len(rest), size-4)
			part := make([]byte, size)
			copy(part[4:], rest[:n])
			if rest = rest[n:]; len(rest) > 0 {
				be.PutUint32(part, uint32(len(out)/size+2))
			}
			out = append(out, part...)
		}
	}
	return out
}

// putVarint writes a number below 2^28.
func putVarint(v int64) []byte {
	var out []byte
	for shift := 21; shift > 0; shift -= 7 {
		if b := byte(v>>shift) & 0x7f; b != 0 || len(out) > 0 {
			out = append(out, b|0x80)
		}
	}
	return append(out, byte(v&0x7f))
}

// TestSQLite reads what SQLite itself has written.
func TestSQLite(t *testing.T) {
	t.Parallel()
	program := oracle.Program(t, "sqlite3")
	file := filepath.Join(t.TempDir(), "rpmdb.sqlite")
	var want []Package
	for i := range 60 {
		p := samples()[i%2]
		p.Release = fmt.Sprint(i)
		want = append(want, p)
	}
	for _, pageSize := range []int{512, 4096, 65536} {
		_ = os.Remove(file)
		var sql strings.Builder
		fmt.Fprintf(&sql, "PRAGMA page_size=%d; CREATE TABLE x(y); CREATE TABLE Packages(hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL);\n", pageSize)
		for _, p := range want {
			fmt.Fprintf(&sql, "INSERT INTO Packages(blob) VALUES(x'%s');\n", hex.EncodeToString(encode(p)))
		}
		cmd := exec.Command(program, file)
		cmd.Stdin = strings.NewReader("BEGIN;\n" + sql.String()[strings.Index(sql.String(), "CREATE"):] + "COMMIT;\n")
		cmd.Args = append(cmd.Args, "-cmd", fmt.Sprintf("PRAGMA page_size=%d;", pageSize))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("sqlite3: %v: %s", err, out)
		}
		db, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		got, err := read(db)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("pages of %d bytes: %.500s", pageSize, diff)
		}
	}
}

// TestLoops has pages that lead to themselves.
func TestLoops(t *testing.T) {
	t.Parallel()
	db := sqliteOf(samples())
	binary.BigEndian.PutUint32(db[512+8:], 2) // the last child of the interior page
	if _, err := read(db); !errors.Is(err, errFormat) {
		t.Errorf("a page in itself: %v", err)
	}
	big := hash(samples(), binary.LittleEndian)
	last := len(big) - 512
	binary.LittleEndian.PutUint32(big[last-512+16:], uint32(last/512-1)) // leads to itself
	if _, err := read(big); err != nil && !errors.Is(err, errFormat) {
		t.Errorf("a value that leads to itself: %v", err)
	}
}

func FuzzRead(f *testing.F) {
	list := samples()
	list[1].Files = list[1].Files[:30]
	for _, db := range [][]byte{ndb(list), hash(list, binary.LittleEndian), hash(list, binary.BigEndian), sqliteOf(list)} {
		f.Add(db)
	}
	f.Fuzz(func(t *testing.T, db []byte) {
		if _, err := read(db); err != nil && !errors.Is(err, errFormat) {
			t.Error(err)
		}
	})
}

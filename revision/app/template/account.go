package template

import (
	"bufio"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Account is whom the program of a container runs as.
type Account struct {
	UID, GID uint32
	Groups   []uint32 // supplementary
}

// ParseUser reads an image's User: USER, USER:GROUP, each a name or a number. known is
// false when the image's files are needed, see [LookUp].
func ParseUser(user string) (a Account, known bool) {
	name, group, given := strings.Cut(user, ":")
	if user == "" || name == "root" && !given {
		return a, true
	}
	uid, err1 := id(name)
	gid, err2 := id(group)
	return Account{UID: uid, GID: gid}, err1 == nil && err2 == nil
}

// id reads the number of a user or a group.
func id(text string) (uint32, error) {
	n, err := strconv.ParseUint(text, 10, 31)
	return uint32(n), err
}

// LookUp finds an image's User in its files /etc/passwd and /etc/group (passwd(5),
// group(5)). As with the tools that run images, a user given without a group has that of
// passwd, 0 when it is a number that is not there, and is in the groups that list it.
func LookUp(user, passwd, groups string) (Account, error) {
	name, group, given := strings.Cut(user, ":")
	if name == "" {
		name = "0"
	}
	var a Account
	uid, err := id(name)
	entry := find(passwd, 3, func(f []string) bool { return f[0] == name || err == nil && f[2] == name })
	switch {
	case entry != nil:
		name = entry[0]
		if a.UID, err = id(entry[2]); err != nil {
			return a, fmt.Errorf("user %q has the number %q in the image's /etc/passwd", name, entry[2])
		}
		if len(entry) > 3 {
			a.GID, _ = id(entry[3])
		}
	case err == nil:
		a.UID = uid
	default:
		return a, fmt.Errorf("user %q is not in the image's /etc/passwd", name)
	}
	if given && group != "" {
		a.GID, err = groupID(group, groups)
		return a, err
	}
	for _, f := range lines(groups, 4) {
		if gid, err := id(f[2]); err == nil && gid != a.GID && slices.Contains(strings.Split(f[3], ","), name) {
			a.Groups = append(a.Groups, gid)
		}
	}
	slices.Sort(a.Groups)
	a.Groups = slices.Compact(a.Groups)
	return a, nil
}

func groupID(name, groups string) (uint32, error) {
	if gid, err := id(name); err == nil {
		return gid, nil
	}
	entry := find(groups, 3, func(f []string) bool { return f[0] == name })
	if entry == nil {
		return 0, fmt.Errorf("group %q is not in the image's /etc/group", name)
	}
	gid, err := id(entry[2])
	if err != nil {
		return 0, fmt.Errorf("group %q has the number %q in the image's /etc/group", name, entry[2])
	}
	return gid, nil
}

// lines returns the fields of the lines that have at least that many.
func lines(text string, least int) (list [][]string) {
	sc := bufio.NewScanner(strings.NewReader(text))
	for sc.Scan() {
		if f := strings.Split(strings.TrimSpace(sc.Text()), ":"); len(f) >= least && !strings.HasPrefix(f[0], "#") {
			list = append(list, f)
		}
	}
	return list
}

// find returns the first line that matches, nil for none.
func find(text string, least int, matches func([]string) bool) []string {
	list := lines(text, least)
	if i := slices.IndexFunc(list, matches); i >= 0 {
		return list[i]
	}
	return nil
}

// account writes whom init runs as. Root is the default.
func (c *conf) account() {
	a := c.user
	if a.UID != 0 {
		c.line("lxc.init.uid", strconv.Itoa(int(a.UID)))
	}
	if a.GID != 0 {
		c.line("lxc.init.gid", strconv.Itoa(int(a.GID)))
	}
	if len(a.Groups) > 0 {
		var words []string
		for _, g := range a.Groups {
			words = append(words, strconv.Itoa(int(g)))
		}
		c.line("lxc.init.groups", strings.Join(words, ","))
	}
}

// stopSignal writes the image's signal for the end, which is a number or a name with or
// without SIG.
func (c *conf) stopSignal() {
	v, _ := c.docker.Get("StopSignal")
	if !isSet(v) {
		return
	}
	signal := strings.ToUpper(c.scalar("docker_config.StopSignal", v))
	if _, err := strconv.Atoi(signal); err != nil && !strings.HasPrefix(signal, "SIG") {
		signal = "SIG" + signal
	}
	c.line("lxc.signal.halt", signal)
}

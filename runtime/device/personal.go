package device

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/pantavisor/pantavisor/formats/personal"
	"github.com/pantavisor/pantavisor/internal/atomicfile"
	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/internal/filestat"
	"github.com/pantavisor/pantavisor/runtime/config"
	"github.com/pantavisor/pantavisor/runtime/logs"
	"github.com/pantavisor/pantavisor/runtime/meta"
)

// personalTaken is the file beside the keys of user metadata that says which of them came from
// the personal settings, with the SHA-256 of their values. A key that was taken is not taken
// again, so that others may change and delete it; one that is no longer among the settings is
// deleted if it still has the value that came from there. Where user metadata goes, it goes too.
const personalTaken = ".personal"

// maxTaken bounds that file, in bytes: a key of each of the settings, and what JSON adds.
const maxTaken = 1 << 20

// readPersonal reads the personal settings on the storage, which need not be there.
func readPersonal(storage string) (personal.Settings, error) {
	f, _, err := filestat.OpenRegular(filepath.Join(storage, personal.Name))
	if errors.Is(err, fs.ErrNotExist) {
		return personal.Settings{}, nil
	}
	if err != nil {
		return personal.Settings{}, fmt.Errorf("reading the personal settings: %w", err)
	}
	defer f.Close()
	s, err := personal.Read(f)
	if err != nil {
		return s, fmt.Errorf("reading the personal settings: %w", err)
	}
	return s, nil
}

// setPersonalHub replaces settings of pantahub.config. With PV_STORAGE_PHCONFIG_VOL those must
// not come from the open storage, and stay.
func setPersonalHub(c *config.Config, s personal.Settings) error {
	if len(s.Hub) == 0 {
		return nil
	}
	if c.Bool(config.StoragePHConfigVol) {
		return errors.New("personal settings of the Hub are not used: PV_STORAGE_PHCONFIG_VOL wants them in a volume")
	}
	for _, name := range slices.Sorted(maps.Keys(s.Hub)) {
		c.Set(config.PHConf, name, s.Hub[name])
	}
	return nil
}

// setPersonalName gives the device its name. Containers have names of their own.
func setPersonalName(s personal.Settings) error {
	if s.Hostname == "" {
		return nil
	}
	err := personal.CheckHostname(s.Hostname)
	if err == nil {
		err = unix.Sethostname([]byte(s.Hostname))
	}
	if err != nil {
		return fmt.Errorf("setting the personal host name: %w", err)
	}
	return nil
}

// takePersonal takes the keys of user metadata. Where that is on an encrypted disk, it must not
// come from the open storage.
func (s *session) takePersonal() {
	log := s.log.Named("personal")
	want := s.personal.UserMeta
	if s.paths.usrMetaSealed {
		if len(want) > 0 {
			log.Warnf("personal user metadata is not used: the volume %s is on an encrypted disk", volumeUsrMeta)
		}
		return
	}
	if s.paths.usrMeta == "" { // it is kept in memory, anew at each start
		takeKeys(s.user, want, nil, log)
		return
	}
	file := filepath.Join(s.paths.usrMeta, personalTaken)
	taken, err := readTaken(file)
	if err != nil {
		log.Warnf("%v; all personal user metadata is taken again", err)
	}
	if len(want) == 0 && len(taken) == 0 {
		return
	}
	now := takeKeys(s.user, want, taken, log)
	if maps.Equal(now, taken) {
		return
	}
	if err := writeTaken(file, now); err != nil {
		log.Errorf("keeping which personal user metadata was taken: %v", err)
	}
}

// takeKeys makes user metadata what is wanted, as far as it differs from what was taken before,
// and returns what is taken then.
func takeKeys(user *meta.Store, want, taken map[string]string, log logs.Logger) map[string]string {
	now := map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(taken)) {
		if _, stays := want[key]; stays {
			continue
		}
		if value, ok := user.Get(key); !ok || digest(value) != taken[key] {
			continue // somebody else changed it since
		}
		if err := user.Delete(key); err != nil {
			log.Errorf("personal user metadata that is no longer set: %v", err)
			now[key] = taken[key]
			continue
		}
		log.Infof("user metadata %q is removed: it is no longer set", key)
	}
	for _, key := range slices.Sorted(maps.Keys(want)) {
		sum := digest(want[key])
		if taken[key] != sum {
			if err := user.Set(key, want[key]); err != nil {
				log.Errorf("personal user metadata: %v", err)
				continue
			}
			log.Infof("user metadata %q is taken from the personal settings", key)
		}
		now[key] = sum
	}
	return now
}

func digest(value string) string {
	sum := sha256.Sum256([]byte(value))
	return hex.EncodeToString(sum[:])
}

// readTaken reads the file of keys that were taken, which need not be there.
func readTaken(file string) (map[string]string, error) {
	data, err := bounded.ReadRegular(file, maxTaken)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var taken map[string]string
	if err == nil {
		err = json.Unmarshal(data, &taken)
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", personalTaken, err)
	}
	return taken, nil
}

// writeTaken writes the file; without keys there is none.
func writeTaken(file string, taken map[string]string) error {
	if len(taken) == 0 {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return atomicfile.SyncDir(filepath.Dir(file))
	}
	data, err := json.Marshal(taken)
	if err != nil {
		return err
	}
	return atomicfile.Write(file, data, 0o600)
}

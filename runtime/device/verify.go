package device

import (
	"crypto"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/pantavisor/pantavisor/internal/bounded"
	"github.com/pantavisor/pantavisor/revision/pvs"
	"github.com/pantavisor/pantavisor/revision/pvs/trust"
	"github.com/pantavisor/pantavisor/revision/state"
	"github.com/pantavisor/pantavisor/runtime/config"
	"github.com/pantavisor/pantavisor/runtime/logs"
)

// untrusted is the error of a state whose signatures are not accepted.
type untrusted struct{ err error }

func (u *untrusted) Error() string { return u.err.Error() }
func (u *untrusted) Unwrap() error { return u.err }

// Outcome is the message of an update that ends so (manual: Updates).
func (u *untrusted) Outcome() string {
	for _, told := range []error{pvs.ErrSignature, pvs.ErrCoverage} {
		if errors.Is(u.err, told) {
			return told.Error()
		}
	}
	return pvs.ErrSignature.Error()
}

// verify checks the signatures of a state as PV_SECUREBOOT_MODE asks for (manual:
// Integrity). In the mode audit it only logs.
func verify(c *config.Config, st *state.State, log logs.Logger) error {
	mode := pvs.Mode(c.Enum(config.SecurebootMode))
	if mode == pvs.Disabled {
		return nil
	}
	report, err := pvs.Check(st, trusted(c), mode, pvs.Device, pvs.Signer)
	if err != nil {
		return &untrusted{err}
	}
	if mode == pvs.Audit {
		for _, p := range report.Problems {
			log.Warnf("PV_SECUREBOOT_MODE=audit: %v", p)
		}
	}
	return nil
}

// maxTrust bounds a file of certificates or keys in bytes.
const maxTrust = 4 << 20

// trusted returns the keys that the device trusts: those of <etc>/pvs/trust (manual:
// Integrity, certificate chain of trust and on-disk public key). What is missing or
// damaged is not trusted.
func trusted(c *config.Config) pvs.Keys {
	dir := filepath.Join(c.String(config.SystemEtcPantavisorDir), "pvs", "trust")
	keys, err := trust.ParsePublicKeys(readTrust(dir, "pub.pem"))
	if err != nil {
		keys = trust.PublicKeys{}
	}
	authority := func(name string) *trust.Authority {
		store, err := trust.ParseStore(readTrust(dir, name+".crt"))
		if err != nil {
			return nil
		}
		return &trust.Authority{Store: store, Timeless: true, AnyUsage: true, KeyWithoutChain: keys}
	}
	main, oem := authority(c.String(config.SecurebootTruststore)), authority(c.String(config.SecurebootOEMTruststore))
	if main == nil {
		return withoutStore{keys, dir}
	}
	return &trust.Device{Main: main, OEM: oem, OEMName: c.String(config.OEMName)}
}

// readTrust returns the content of a file, nil when it cannot be read.
func readTrust(dir, name string) []byte {
	text, _ := bounded.ReadFile(filepath.Join(dir, name), maxTrust)
	return text
}

// withoutStore is the trust of a device without certificates: bare keys, and nobody's chain.
type withoutStore struct {
	trust.PublicKeys
	dir string
}

// For implements pvs.Keys.
func (w withoutStore) For(s *pvs.Signature, protected []string) ([]crypto.PublicKey, error) {
	if len(s.Chain) > 0 {
		return nil, fmt.Errorf("%w: %s has no certificates (PV_SECUREBOOT_TRUSTSTORE)", pvs.ErrNoKey, w.dir)
	}
	return w.PublicKeys.For(s, protected)
}

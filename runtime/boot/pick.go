package boot

import "fmt"

// keyTrying is the boot loader's own mark that it has started pv_try once.
const keyTrying = "pv_trying"

// Pick does the boot loader's work where there is none (App Engine): it returns the
// revision to run, which is a revision to test once and otherwise the last good one, and
// sets the mark as a boot script does (manual: Bootloader). On an error it returns the
// last good revision if that is known, otherwise [Factory].
func Pick(s Store) (string, error) {
	f, ok := s.(*file)
	if !ok {
		return Factory, fmt.Errorf("choosing the revision: loader %T does not store its state in a file", s)
	}
	pairs, err := f.read()
	if err != nil {
		return Factory, fmt.Errorf("choosing the revision: %w", err)
	}
	good, try := get(pairs, keyRev), get(pairs, keyTry)
	if good == "" || Validate(good) != nil {
		good = Factory
	}
	if try == "" || try == get(pairs, keyTrying) {
		return good, nil
	}
	if err := Validate(try); err != nil {
		return good, fmt.Errorf("choosing the revision to try: %w", err)
	}
	// Marked before it runs: a revision that crashes the machine is not tried again.
	if err := f.change(func(p []pair) []pair { return set(p, keyTrying, try) }); err != nil {
		return good, err
	}
	return try, nil
}

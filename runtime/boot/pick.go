package boot

import "fmt"

// keyTrying is the boot loader's own mark that it has begun to test pv_try.
const keyTrying = "pv_trying"

// Pick does the boot loader's part where there is none (App Engine): it returns the
// revision to run, a test once, the last good one otherwise, and leaves the mark as a
// boot script does (manual: Bootloader). On an error the revision is the last good one
// as far as it can be told.
func Pick(s Store) (string, error) {
	f, ok := s.(*file)
	if !ok {
		return Factory, fmt.Errorf("choosing the revision: a %T is no store of a file", s)
	}
	pairs, err := f.read()
	if err != nil {
		return Factory, fmt.Errorf("choosing the revision: %w", err)
	}
	good, try := get(pairs, keyRev), get(pairs, keyTry)
	if good == "" || Validate(good) != nil {
		good = Factory
	}
	switch trying := get(pairs, keyTrying); {
	case try == "" && trying == "":
		return good, nil
	case try == "" || try == trying:
		return good, f.change(func(p []pair) []pair { return set(p, keyTrying, "") })
	}
	if err := Validate(try); err != nil {
		return good, fmt.Errorf("choosing the revision to try: %w", err)
	}
	// Marked before it runs: one that takes the machine down is not tried again.
	if err := f.change(func(p []pair) []pair { return set(p, keyTrying, try) }); err != nil {
		return good, err
	}
	return try, nil
}

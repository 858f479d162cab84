"""All tests: unit (pure, seconds), contract (a fake and the real part), e2e, faults, lab, bench."""

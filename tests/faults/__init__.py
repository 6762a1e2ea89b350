"""What breaks a run from outside, and that nothing is lost: see docs/reliability.md."""

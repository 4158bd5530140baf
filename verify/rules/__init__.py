"""Rules of the promise, each a pure function from what was seen to what was broken."""

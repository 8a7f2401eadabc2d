"""What happened: every event, decision and publication, as canonical JSON lines in one hash chain.

`record` holds the nouns, `codec` turns them into lines and back, `scan` reads and verifies files, `log`
appends (one fsync a round), `memory` is the false twin without a disk.
"""

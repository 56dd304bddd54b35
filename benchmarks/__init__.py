"""Speed and memory of the sync, measured against peers: see README.md in this folder."""

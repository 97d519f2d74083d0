"""The viewer: find samples, see why each is in or out of gold, and say so when that is wrong."""

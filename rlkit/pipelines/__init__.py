"""From a resolved config to a run: the only place where a plugin name becomes an object."""

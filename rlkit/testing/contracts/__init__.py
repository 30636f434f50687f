"""One module for each kind of plugin: what every plugin of it must do, as functions that raise AssertionError."""

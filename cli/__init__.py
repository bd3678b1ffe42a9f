"""Program: the `moca` command, the only place that prints."""

"""Where a process runs: devices and their kernels, the other processes of its run, what it tells of itself."""

"""Sending a sweep's jobs elsewhere: to SLURM through submitit, or over the devices of this machine."""

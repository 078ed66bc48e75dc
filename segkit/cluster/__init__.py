"""Batch jobs on a SLURM cluster: what a job asks for, the scripts' texts, and handing them to sbatch."""

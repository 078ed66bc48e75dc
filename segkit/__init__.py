"""segkit: train, profile, export and run segmentation nets on MRI slices."""

__version__ = "0.1.0"

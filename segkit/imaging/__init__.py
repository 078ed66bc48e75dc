"""Reading scans, fitting slices to a net and back, writing masks: NumPy and Pillow, nibabel for NIfTI."""

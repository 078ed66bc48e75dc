"""DICOM: series from any heap of files, one sequence for each channel, and masks back as SEG, SR and NIfTI.

Needs the extra `dicom`. No text here that reaches a user holds a value of a patient's: slices are named by series and
instance number, never by file name.
"""

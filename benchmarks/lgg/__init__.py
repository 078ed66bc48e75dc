"""The models of the package: how they are trained on the LGG slices, judged, and put into the package."""

#!/bin/sh
# segkit as the image's program. Apptainer hands the caller's variables on, and a PYTHONPATH of the host's modules
# would put the host's packages before the image's. Where it is to count: /opt/segkit/libexec/segkit.
unset PYTHONPATH PYTHONHOME
exec /opt/segkit/libexec/segkit "$@"

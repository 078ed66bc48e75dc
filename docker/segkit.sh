#!/bin/sh
# segkit as the image's program. Apptainer hands the caller's variables on, and a PYTHONPATH of the host's modules
# would put the host's packages before the image's; /opt/segkit/bin/segkit keeps it.
unset PYTHONPATH PYTHONHOME
exec /opt/segkit/bin/segkit "$@"

# A stand-in for CANN's set_env.sh (docs/ascend-tools.md#set-env). Like the real one it fails under `set -u`.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export ASCEND_TOOLKIT_HOME=$here ASCEND_HOME_PATH=$here ASCEND_OPP_PATH=$here/opp ASCEND_AICPU_PATH=$here
export PATH=$here/bin:$PATH
export LD_LIBRARY_PATH=$here/lib64:$LD_LIBRARY_PATH
export PYTHONPATH=$here/python/site-packages:$PYTHONPATH

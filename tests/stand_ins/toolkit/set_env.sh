# A stand-in for CANN's set_env.sh (contract 1.1); like that it reads an unset variable, which `set -u` would not bear.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export ASCEND_TOOLKIT_HOME=$here ASCEND_HOME_PATH=$here ASCEND_OPP_PATH=$here/opp ASCEND_AICPU_PATH=$here
export PATH=$here/bin:$PATH
export LD_LIBRARY_PATH=$here/lib64:$LD_LIBRARY_PATH
export PYTHONPATH=$here/python/site-packages:$PYTHONPATH

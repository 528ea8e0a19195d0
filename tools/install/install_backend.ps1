# SPDX-License-Identifier: Apache-2.0
# Installs posefit's backend for Blender: finds a Python, and has it run install_backend.py.
# For Windows; never run there yet. Options are those of install_backend.py (--help lists them):
#   powershell -ExecutionPolicy Bypass -File tools\install\install_backend.ps1 --dry-run
$installer = Join-Path $PSScriptRoot "install_backend.py"
$check = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))"
$candidates = @(
    @("py", "-3.12"), @("py", "-3.11"), @("py", "-3.13"), @("py", "-3"), @("python3"), @("python")
)
foreach ($candidate in $candidates) {
    $program = $candidate[0]
    $version = @($candidate | Select-Object -Skip 1)
    if (-not (Get-Command $program -ErrorAction SilentlyContinue)) { continue }
    & $program @version -c $check *> $null
    if ($LASTEXITCODE -eq 0) {
        & $program @version $installer @args
        exit $LASTEXITCODE
    }
}
[Console]::Error.WriteLine(
    "install_backend: no Python 3.11 or newer was found: install Python 3.12 for Windows " +
    "(with its launcher py) and run this again; nothing was changed")
exit 1

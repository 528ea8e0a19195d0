# SPDX-License-Identifier: Apache-2.0
# Each target sets up what it needs: on a fresh machine `make demo` and `make test` are enough.

PYTHON ?= $(or $(shell tools/find_python.sh 3.11),$(shell tools/find_python.sh 3.12),$(shell tools/find_python.sh 3.13),python3)
PYTHON311 := $(shell tools/find_python.sh 3.11)
PYTHON313 := $(shell tools/find_python.sh 3.13)
BIN := .venv/bin
PIP_FLAGS := --quiet --disable-pip-version-check -c constraints.txt
# Annotations of everything that handles tensors are checked while the tests run; ints count as floats.
CHECKED := body body_model skinning rotations rasterizer modalities texture crop refinement vertex_targets solver displacement pipeline
COMMA := ,
EMPTY :=
SPACE := $(EMPTY) $(EMPTY)
PYTEST := PYTHONPATH=tests $(BIN)/python -m pytest --jaxtyping-packages=$(subst $(SPACE),$(COMMA),$(foreach name,$(CHECKED),posefit.$(name))),type_checker.check
BLENDER_TESTS := -m pytest tests/blender_addon
ENVIRONMENTS := .venv/.test $(if $(PYTHON311),.venv-bpy42/.installed) $(if $(PYTHON313),.venv-bpy52/.installed)
# macOS's make has no such option: there the parts' lines mix.
OUTPUT_SYNC := $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)
# Idle OpenMP threads that spin take the cores from those that work (docs/solver.md).
export OMP_WAIT_POLICY := PASSIVE

.PHONY: demo test test-fast test-full test-blender test-blender-full test-pytorch3d test-ray test-locked lint audit bench extension reproducible fuzz test-gui clean

# ------------------------------------------------------------------ what people run

demo: .venv/.runtime $(if $(PYTHON311),.venv-bpy42/.installed)
	$(BIN)/posefit demo --output demo

# Two parts at a time, each on one core. All are run, and one that fails fails the whole.
test: $(ENVIRONMENTS)
	@echo "Each part's results follow when it has ended"
	@OMP_NUM_THREADS=1 $(MAKE) --keep-going --jobs=2 $(OUTPUT_SYNC) test-engine test-blender42 test-blender52 test-rest lint-ruff licences advisories

test-fast: .venv/.test
	$(PYTEST) -m "not slow and not pytorch3d and not ray and not gpu"

# Everything, and a skip is a failure; tests of the extension run in each Blender.
test-full: lint test-blender-full test-pytorch3d
	$(PYTEST) -m "not pytorch3d and not ray and not gpu" --ignore=tests/blender_addon --forbid-skips

bench: .venv/.test
	$(BIN)/posefit bench

extension: .venv-bpy42/.installed
	.venv-bpy42/bin/python tools/blender/build_extension.py

# The artist's first session, clicked in real windows; needs root and debootstrap.
test-gui: .venv/.runtime extension
	$(BIN)/python tests/gui/run.py

lint: lint-ruff licences advisories
	$(BIN)/pyright

# Known holes of what is locked, asked of the advisory service: needs a network that reaches it.
audit: .venv-audit/.installed
	.venv-audit/bin/pip-audit --strict --require-hashes --disable-pip -r requirements.lock

# Wheels and extension built twice, elsewhere and at another time: the same bytes?
reproducible: .venv-bpy42/.installed
	.venv-bpy42/bin/python tools/check_reproducible.py

# As `make test`, in an environment of which every file is known by its hash (Python 3.11, Linux).
test-locked: .venv-locked/.installed
	PYTHONPATH=tests .venv-locked/bin/python -m pytest -m "not pytorch3d and not ray and not gpu" --ignore=tests/blender_addon

# Every reader of what strangers may send, fuzzed; FUZZ_INPUTS for each.
FUZZ_INPUTS ?= 20000
fuzz: .venv/.test
	for reader in messages worker_messages sequence body model_pickle pickle import bvh picture texture footage camera shot; do \
		$(BIN)/python -W ignore tools/fuzz/run.py $$reader --inputs $(FUZZ_INPUTS) || exit 1; done

# ------------------------------------------------------------------ parts of them

.PHONY: test-engine test-blender42 test-blender52 test-rest lint-ruff licences advisories

test-engine: .venv/.test
	$(PYTEST) -m "not pytorch3d and not ray and not gpu" tests/posefit

test-rest: .venv/.test
	$(PYTEST) -m "not pytorch3d and not ray and not gpu" --ignore=tests/posefit

licences: .venv/.test
	$(BIN)/python tools/check_licences.py

# The same without a network, as far as the snapshot in the repository knows.
advisories: .venv/.test
	$(BIN)/python tools/check_advisories.py

lint-ruff: .venv/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

test-blender: test-blender42 test-blender52

test-blender42: .venv/.test $(if $(PYTHON311),.venv-bpy42/.installed)
	$(if $(PYTHON311),.venv-bpy42/bin/python $(BLENDER_TESTS),@echo "no Python 3.11 here: not tested on Blender 4.2")

test-blender52: .venv/.test $(if $(PYTHON313),.venv-bpy52/.installed)
	$(if $(PYTHON313),.venv-bpy52/bin/python $(BLENDER_TESTS),@echo "no Python 3.13 here: not tested on Blender 5.2")

test-blender-full: .venv/.test .venv-bpy42/.installed .venv-bpy45/.installed .venv-bpy50/.installed .venv-bpy52/.installed
	for blender in 42 45 50 52; do .venv-bpy$$blender/bin/python $(BLENDER_TESTS) --forbid-skips || exit 1; done

test-pytorch3d: .venv-pytorch3d/.installed
	.venv-pytorch3d/bin/python -m pytest -m pytorch3d tests/posefit/test_rasterizer.py --forbid-skips

# A cluster of two nodes on this machine, in an environment of its own: Ray is optional.
test-ray: .venv-ray/.installed
	PYTHONPATH=tests .venv-ray/bin/python -m pytest -m ray tests/posefit/test_batch_ray.py --forbid-skips

# ------------------------------------------------------------------ environments

.venv/.runtime: pyproject.toml shared/pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install $(PIP_FLAGS) -e ./shared -e .
	touch $@

.venv/.test: .venv/.runtime
	$(BIN)/pip install $(PIP_FLAGS) -e ./shared -e '.[test,train,lint,smplx]'
	touch $@

# The module `bpy` exists for Python 3.11 (Blender 4.2 to 5.0) and 3.13 (Blender 5.1 and 5.2) only.
.venv-bpy42/.installed: BPY = bpy==4.2.23
.venv-bpy45/.installed: BPY = bpy==4.5.15
.venv-bpy50/.installed: BPY = bpy==5.0.1
.venv-bpy52/.installed: BPY = bpy==5.2.3
.venv-bpy52/.installed: BPY_PYTHON = $(PYTHON313)
.venv-bpy%/.installed: BPY_PYTHON = $(PYTHON311)
.venv-bpy%/.installed: shared/pyproject.toml
	$(BPY_PYTHON) -m venv .venv-bpy$*
	.venv-bpy$*/bin/pip install --quiet --disable-pip-version-check $(BPY) build hatchling pytest pytest-timeout pyzmq -e ./shared
	touch $@

# PyTorch3D for Linux is built against CUDA 13: it needs a torch of its own.
.venv-pytorch3d/.installed: pyproject.toml shared/pyproject.toml
	$(PYTHON311) -m venv .venv-pytorch3d
	.venv-pytorch3d/bin/pip install --quiet --disable-pip-version-check torch==2.11.0 easypytorch3d==0.7.9.post1 -e ./shared -e '.[test]'
	touch $@

.venv-ray/.installed: pyproject.toml shared/pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-ray
	.venv-ray/bin/pip install $(PIP_FLAGS) -e ./shared -e '.[test,ray]'
	touch $@

.venv-audit/.installed:
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/pip install --quiet --disable-pip-version-check 'pip-audit>=2.10'
	touch $@

.venv-locked/.installed: requirements.lock pyproject.toml shared/pyproject.toml
	$(PYTHON311) -m venv .venv-locked
	.venv-locked/bin/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	.venv-locked/bin/pip install --quiet --disable-pip-version-check --no-deps -e ./shared -e .
	touch $@

clean:
	rm -rf .venv .venv-* .cache dist build demo

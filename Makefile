# One environment in .venv; every target is safe to repeat. GNU Make 3.81 (macOS) and later.
PYTHON ?= python3
TORCH  ?= torch==2.13.0
VENV   := .venv
BIN    := $(VENV)/bin

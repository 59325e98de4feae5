"""Secrets never reach a message, a log record or a traceback."""

from __future__ import annotations

import io
import logging

import pytest

from comfyloom._core.redact import log, redact, register_secret, register_url_secret


def test_a_machine_url_is_hidden_in_all_its_forms() -> None:
    register_url_secret("https://0a1b-comfyui.runcomfy.com/")
    text = "wss://0a1b-comfyui.runcomfy.com/ws and host='0a1b-comfyui.runcomfy.com', port=443"
    assert redact(text) == "<machine>/ws and host='<machine>', port=443"


def test_a_loopback_host_is_not_secret_but_a_machine_path_is() -> None:
    register_url_secret("http://127.0.0.1:4711/comfyui/0a1b2c3d4e5f6071")
    assert redact("http://127.0.0.1:4711/prod") == "http://127.0.0.1:4711/prod"
    assert redact("GET /comfyui/0a1b2c3d4e5f6071/queue") == "GET <machine>/queue"


def test_short_values_are_left_alone() -> None:
    register_secret("ab")
    assert redact("about") == "about"


@pytest.mark.parametrize("name", ["comfyloom", "urllib3.connectionpool", "websocket"])
def test_log_records_arguments_and_tracebacks_hold_no_secret(name: str) -> None:
    register_secret("tok-987654")
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logger = logging.getLogger(name)
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        try:
            raise RuntimeError("tok-987654 in an exception")
        except RuntimeError:
            logger.exception("sending %s", "tok-987654")
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
    assert "sending <token>" in stream.getvalue()
    assert "RuntimeError: <token> in an exception" in stream.getvalue()
    assert "tok-987654" not in stream.getvalue()


def test_there_is_one_logger() -> None:
    assert log is logging.getLogger("comfyloom")


def test_a_machine_path_is_hidden_without_its_slash_too() -> None:
    register_url_secret("http://127.0.0.1:8188/a-machine-not-registered-01")
    page = "no a-machine-not-registered-01 at /a-machine-not-registered-01/x"
    assert redact(page) == "no <machine> at <machine>/x"
    register_url_secret("http://127.0.0.1:8188/comfyui/5ab11f3b-5ca2-41b6-bd60-14cc7b9547ef")
    # The id of a machine is not secret: it stops the machine only with the account's token.
    assert redact("5ab11f3b-5ca2-41b6-bd60-14cc7b9547ef") != "<machine>"

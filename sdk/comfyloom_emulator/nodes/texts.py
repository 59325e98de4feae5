"""Nodes for text and numbers."""

from collections.abc import Mapping

from comfyloom_emulator.nodes.spec import Node, NodeCall, NodeResult


def _encode(call: NodeCall) -> NodeResult:
    from comfyloom_emulator.nodes.values import Conditioning

    return NodeResult(outputs=(Conditioning(call.inputs["text"]),))


def _encode_flux(call: NodeCall) -> NodeResult:
    from comfyloom_emulator.nodes.values import Conditioning

    parts = dict.fromkeys([call.inputs["clip_l"], call.inputs["t5xxl"]])
    text = " ".join(part for part in parts if part)
    return NodeResult(outputs=(Conditioning(text, call.inputs["guidance"]),))


def _pass_on(call: NodeCall) -> NodeResult:
    return NodeResult(outputs=(call.inputs["value"],))


TEXTS: Mapping[str, Node] = {
    "CLIPTextEncode": Node(run=_encode),
    "CLIPTextEncodeFlux": Node(run=_encode_flux),
    "PrimitiveInt": Node(run=_pass_on),
    "PrimitiveStringMultiline": Node(run=_pass_on),
}

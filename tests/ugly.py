"""Small graphs with features of real workflow files that break generators."""

from __future__ import annotations

from typing import Any, Final

Graph = dict[str, dict[str, Any]]


def node(class_type: str, title: str | None = None, **inputs: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"inputs": inputs, "class_type": class_type}
    return made if title is None else {**made, "_meta": {"title": title}}


def named(class_type: str, inputs: dict[str, Any], title: str | None = None) -> dict[str, Any]:
    """Return a node whose inputs have names that are not identifiers."""
    return {**node(class_type, title), "inputs": inputs}


SAVE: Final = {"filename_prefix": "x", "images": ["1", 0]}

UGLY: Final[dict[str, Graph]] = {
    "duplicate titles": {
        "6": node("CLIPTextEncode", "CLIP Text Encode (Prompt)", text="a"),
        "7": node("CLIPTextEncode", "CLIP Text Encode (Prompt)", text="b"),
        "9": node("SaveImage", "Save Image", images=["6", 0]),
        "10": node("SaveImage", "Save Image", images=["7", 0]),
    },
    "signs": {
        "1": node("ImageResize", "CN+", width=1),
        "2": node("ImageResize+", "CN-", width=2),
        "3": node("FRAMES", "frames", n=1),
        "4": node("frames", "FRAMES", n=2),
    },
    "scripts": {
        "1": node("加载图像", "加载图像", image="x.png"),
        "2": node("テキスト", "ポジティブ プロンプト", text="猫"),
        "3": node("Text", "\uff34\uff45\uff58\uff54", text="wide"),
        "4": node("Text", "Промпт №1", text="x"),
        "5": node("Text", "مرحبا", text="x"),
        "6": node("Text", "🔧🔧🔧", text="x"),
    },
    "titles like code": {
        "1": node("A", "4x upscale / {braces} 'quotes' \"more\"", x=1),
        "2": node("A", 'x"""; raise SystemExit', x=1),
        "3": node("A", "{{ title }} {% raise %} %seed%", x="{{STEPS}} %date%"),
        "4": node("A", "for", x=1),
        "5": node("A", "run", x=1),
        "6": node("A", "self", x=1),
        "7": node("A", "build", x=1),
        "8": node("A", "with model", x=1),
        "9": node("A", "long " * 80, x=1),
    },
    "no meta": {
        "1": node("KSampler", seed=5, steps=4),
        "2": node("KSampler", "named", seed=6),
        "3": {**node("SaveImage", images=["1", 0]), "_meta": {}},
        "4": {**node("SaveImage", images=["2", 0]), "_meta": {"title": None}},
        "5": {**node("Extra", x=1), "is_changed": ["abc"], "pos": [1, 2], "mode": 0},
    },
    "input names": {
        "1": named(
            "Merge",
            {
                "class": "a",
                "in": 1,
                "input_blocks.0": 0.5,
                "out.": 1.0,
                "1": 2,
                "*": "any",
                "\u2795 Add Lora": "",
                "format": "png",
                "type": "flux",
                "min": 0,
                "a.b": 1,
                "a_b": 2,
                "a b": 3,
                "Case": 1,
                "case": 2,
                "with_x": 1,
                "x": 1,
                "": "empty",
            },
        ),
    },
    "ids": {
        "65:33:11": node("A", "group", x=1),
        "48_10": node("A", "under", x=["65:33:11", 0]),
        "012": node("A", "octal", x=1),
        "12": node("A", "octal", x=1),
        "LoadImage": node("LoadImage", image="x.png"),
        "a.b": node("A", "dotted", x=["012", 12]),
        "-1": node("A", "negative", x=1),
    },
    "links": {
        "1": node("A", x=["9", 0]),
        "2": node("B", x=["1", 3], y=[["1", 0], ["3", 1]], z=[], w=["1", 0, 0], v=["nobody", "1"]),
        "3": node("C", x=["4", 0]),
        "4": node("D", x=["3", 0]),
        "5": node("E", x=["5", 0]),
    },
    "values": {
        "1": node("Seed", seed=2**64 - 1, noise_seed=2**53 + 1, big=2**70, less=-(2**63)),
        "2": node("Numbers", a=8, b=8.0, c=1e-7, d=1e300, e=True, f=False, g=0, h=-0.0),
        "3": node("Nothing", a=None, b={}, c={"on": True, "lora": None, "s": [1, {"x": 2}]}),
        "4": node("LoadImage", image="x.png", upload="image", **{"choose file to upload": "image"}),
        "5": node(
            "Texts",
            a='line\n"""quotes"""\n\\back\\',
            b="\ud800 half",
            c="\u2028line\u2029 \x00\x1b[2J\r\n",
            d="C:\\Users\\x\\y.png",
            e="/etc/passwd",
            f="end\\",
            g='"',
        ),
        "6": node("Lists", a={"__value__": [1, 2]}, b={"__value__": []}, c={"__value__": 3}),
        "7": node("Widget", control_after_generate="randomize", seed=4.0),
    },
    "class types": {
        "1": node("MathExpression|pysssss", expression="a + b"),
        "2": node("## make-basic_pipe [2c8c61]", x=1),
        "3": node("SDXL Prompt Styler (JPS)", x=1),
        "4": node("Power Lora Loader (rgthree)", lora_1={"on": True, "strength": 1}),
        "5": node("easy seed", seed=3),
        "6": node("class", x=1),
        "7": node("é̶́", x=1),
    },
    "ends": {
        "1": node("VHS_VideoCombine", "Out", images=["9", 0], frame_rate=8),
        "2": node("SaveAudio", "Out", audio=["9", 0]),
        "3": node("SaveGLB", "Out", mesh=["9", 0]),
        "4": node("PreviewAny", "Out", source=["9", 0]),
        "5": node("SaveAnimatedWEBP", "Out", images=["9", 0]),
        "6": node("Preview3D", "Out", model_file="x"),
        "7": node("SomebodysSaver", "Out", images=["9", 0]),
        "9": node("LoadImage", image="x.png"),
    },
    "class": {"1": node("A", x=1)},
    "工作流 (1)": {"1": node("A", x=1)},
    "3d-model.v2": {"1": node("A", x=1)},
}

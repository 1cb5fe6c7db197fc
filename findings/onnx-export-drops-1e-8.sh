#!/usr/bin/env bash
# torch.onnx.export (torch 2.13.0, onnxscript 0.7.2; the same with torch 2.14.1) takes an added 1e-8 for an added 0.
#
# Seen: the graph of log(x + 1e-8), exported as it is by default (dynamo=True, optimize=True), holds one node, Log. ONNX Runtime
# 1.27.0 then gives -inf for x = 0 where PyTorch gives -18.42. With optimize=False the addition is there, and so is -18.42.
# A good engineer guesses that an optimiser of graphs leaves an epsilon that guards a logarithm, a root or a quotient: 1e-8 is
# no zero in float32, and is the usual epsilon of many losses and statistics. Above 1e-8 it is kept.
# What it means here: an encoder's least variance is a floor (`clamp`), not a summand, and exports are compared on silence.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.27.0 numpy
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import onnxruntime
import torch


class Log(torch.nn.Module):
    def __init__(self, epsilon):
        super().__init__()
        self.epsilon = epsilon

    def forward(self, x):
        return (x + self.epsilon).log()


def exported(epsilon, **options):
    """The operators of the graph, and what it gives for zero."""
    module = Log(epsilon)
    program = torch.onnx.export(module, (torch.zeros(1),), dynamo=True, verbose=False, **options)
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [node.op_type for node in program.model_proto.graph.node if node.op_type != "Constant"]
    (value,) = session.run(None, {session.get_inputs()[0].name: torch.zeros(1).numpy()})[0]
    return names, round(float(value), 2), round(float(module(torch.zeros(1))), 2)


seen = {
    "1e-8": exported(1e-8),
    "1e-8, not optimised": exported(1e-8, optimize=False),
    "2e-8": exported(2e-8),
}
for name, what in seen.items():
    print(f"{name}: operators {what[0]}, at zero {what[1]}, PyTorch {what[2]}")
assert seen["1e-8"] == (["Log"], float("-inf"), -18.42), "the behaviour has changed"
assert seen["1e-8, not optimised"] == (["Add", "Log"], -18.42, -18.42), "the behaviour has changed"
assert seen["2e-8"] == (["Add", "Log"], -17.73, -17.73), "the behaviour has changed"
PYTHON

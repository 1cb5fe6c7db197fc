"""Random transformations, batched on the device: `ops` computes, `view` draws and composes, `policies` are the papers'."""

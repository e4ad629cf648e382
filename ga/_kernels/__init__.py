"""Generated kernels for products on the CPU: a plan becomes LLVM assembly, and that machine code, once.

Nothing here is imported before the first product on the CPU; importing ``ga`` does not load LLVM.
"""

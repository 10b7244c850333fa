"""Segmentation from image tags: dual-stage distillation and Gaussian correction, equation by equation.

Start at `dsgc.method` for the method, at `dsgc.training.loop` for the loop, at `dsgc.config` for every number.
"""

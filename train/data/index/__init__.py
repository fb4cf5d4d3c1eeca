"""The index of the clips that are trained on, mapped from one Arrow file that all processes of a machine share."""

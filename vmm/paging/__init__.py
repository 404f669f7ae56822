"""Memory virtualization: `shadow` (no EPT, as in the paper) and `ept`, behind `vcpu.Paging`.

guest: gva --guest tables--> gpa            shadow: the processor walks gva --> hpa tables that the VMM derives
                                            ept:    the processor walks both, gva --> gpa --> hpa
"""

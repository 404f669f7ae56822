class ShadowPaging: pass
